"""The benchmark's own clients, so light that what is measured is the server: JSON on a pipe or a
socket, by the handshake that all servers know (2025-11-25).
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import Process
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

Message = dict[str, Any]
VERSION = "2025-11-25"
HELLO = {
    "protocolVersion": VERSION,
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}
LONGEST = 1 << 24


def request(number: int, method: str, params: Message) -> Message:
    """A JSON-RPC request."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


class Connection(Protocol):
    """One client's session with a server, its handshake made."""

    async def call(self, tool: str, args: Message) -> Message:
        """The result of a call. May be asked for again before it is there."""
        ...


@dataclass
class Piped:
    """A session with a process that was started for it."""

    process: Process
    _waiting: dict[int, asyncio.Future[Message]] = field(default_factory=dict)
    _count: int = 0
    _reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, command: list[str], env: dict[str, str], folder: Path) -> Self:
        """Start the server and make the handshake."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command,
            env=env,
            cwd=folder,
            stdin=pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.DEVNULL,
            limit=LONGEST,
        )
        self = cls(process)
        self._reading = asyncio.create_task(self._read())
        await self._ask("initialize", HELLO)
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    async def call(self, tool: str, args: Message) -> Message:
        """See ``Connection``."""
        return await self._ask("tools/call", {"name": tool, "arguments": args})

    async def close(self) -> None:
        """Close the pipe, and wait for the server to end."""
        assert self.process.stdin is not None
        assert self._reading is not None
        self.process.stdin.close()
        await self.process.wait()
        await self._reading

    async def _ask(self, method: str, params: Message) -> Message:
        self._count += 1
        self._waiting[self._count] = asyncio.get_running_loop().create_future()
        waited = self._waiting[self._count]
        self._write(request(self._count, method, params))
        return _result(await waited)

    def _write(self, message: Message) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            message = json.loads(line)
            if "method" not in message and (waited := self._waiting.pop(message["id"], None)):
                waited.set_result(message)
        for waited in self._waiting.values():
            waited.set_exception(ConnectionError("the server has ended"))


@dataclass
class OverHttp:
    """A session at a URL. Each request that is under way has a connection of its own."""

    url: str
    headers: dict[str, str]
    _free: list[tuple[StreamReader, StreamWriter]] = field(default_factory=list)
    _count: int = 0

    @classmethod
    async def start(cls, url: str, token: str) -> Self:
        """Make the handshake."""
        headers = {
            "Host": urlsplit(url).netloc,
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self = cls(url, headers)
        found, answered = await self._post(request(0, "initialize", HELLO))
        _result(found)
        headers["MCP-Protocol-Version"] = VERSION
        if session := answered.get("mcp-session-id"):
            headers["Mcp-Session-Id"] = session
        await self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    async def call(self, tool: str, args: Message) -> Message:
        """See ``Connection``."""
        self._count += 1
        params = {"name": tool, "arguments": args}
        found, _ = await self._post(request(self._count, "tools/call", params))
        return _result(found)

    async def close(self) -> None:
        """Close all connections."""
        for _, writer in self._free:
            writer.close()

    async def _post(self, message: Message) -> tuple[Message, dict[str, str]]:
        place = urlsplit(self.url)
        if self._free:
            reader, writer = self._free.pop()
        else:
            reader, writer = await asyncio.open_connection(
                place.hostname, place.port, limit=LONGEST
            )
        body = json.dumps(message).encode()
        head = {**self.headers, "Content-Length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"POST {place.path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        answered, text = await _answer(reader)
        self._free.append((reader, writer))
        return (_message(text) if text else {}), answered


async def _answer(reader: StreamReader) -> tuple[dict[str, str], bytes]:
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    head = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if not status.split()[1].startswith("2"):
        raise ConnectionError(f"the server answers {status}")
    if head.get("transfer-encoding") == "chunked":
        return head, b"".join([piece async for piece in _pieces(reader)])
    return head, await reader.readexactly(int(head.get("content-length", 0)))


async def _pieces(reader: StreamReader) -> Any:
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)


def _message(text: bytes) -> Message:
    """The answer, which may be the last event of a stream."""
    if text.lstrip().startswith(b"{"):
        found: Message = json.loads(text)
        return found
    events = [line[5:] for line in text.splitlines() if line.startswith(b"data:")]
    answer: Message = json.loads([event for event in events if event.strip()][-1])
    return answer


def _result(message: Message) -> Message:
    if "error" in message or message["result"].get("isError"):
        raise RuntimeError(f"the server refuses: {message}")
    result: Message = message["result"]
    return result


class Usage:
    """What processes and all that they have started use, as Linux counts it."""

    def __init__(self, roots: list[int]) -> None:
        self._pids = sorted({pid for root in roots for pid in _family(root)})

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        ticks = 0
        for pid in self._pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Megabytes: what is shared by several processes counts once in all."""
        total = 0
        for pid in self._pids:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total / 1024


def _family(root: int) -> Iterator[int]:
    yield root
    for task in Path(f"/proc/{root}/task").glob("*"):
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def now() -> float:
    """Seconds on a clock that only moves on."""
    return time.perf_counter()
