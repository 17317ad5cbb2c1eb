"""The servers that are compared: how each is started, and the cheapest call that it has."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench._mcp_clients import Connection, Message, OverHttp, Piped, Usage, now

PROJECT = Path(__file__).parent.parent
INTEROP = PROJECT / ".cache" / "interop"
CORRAL = [sys.executable, "-m", "corral"]
FASTMCP = INTEROP / "current" / "bin" / "python"
NODE = INTEROP / "node" / "node"
EVERYTHING = INTEROP / "node/node_modules/@modelcontextprotocol/server-everything/dist/index.js"

ECHO: tuple[str, Message] = ("echo", {"message": "hello"})
READ: tuple[str, Message] = ("read_file", {"path": "hello.txt"})
LIST: tuple[str, Message] = ("runs_list", {"limit": 1})
_FOREVER = 60.0


@dataclass(frozen=True)
class Place:
    """Where the servers work: a workspace with a file, and a home of Corral.

    ``reaches`` are the hosts that the web server may reach.
    """

    workspace: Path
    home: Path
    reaches: tuple[str, ...] = ()

    @property
    def own(self) -> dict[str, str]:
        """The variables that lead a server of Corral's here."""
        return {
            "CORRAL_HOME": str(self.home),
            "CORRAL_MODEL": f"scripted:{self.workspace / 'answers.yaml'}",
            "CORRAL_SERVE__RATE": "1000000000",
            "CORRAL_SERVE__CALLS": "1000",
            "CORRAL_SERVE__IDLE": "5",
            "CORRAL_WEB__ALLOW": json.dumps(self.reaches),
            "PYTHONPATH": str(PROJECT),
        }

    @property
    def env(self) -> dict[str, str]:
        """The environment of every server."""
        return {**os.environ, **self.own}

    def make(self) -> None:
        """The workspace and what is read in it."""
        self.workspace.mkdir()
        (self.workspace / "hello.txt").write_text("hello\n")
        (self.workspace / "answers.yaml").write_text('- {text: "Hello."}\n')

    def hosts(self) -> list[int]:
        """The run hosts of this home, which work for the bridges and the HTTP workers."""
        mark = f"CORRAL_HOME={self.home}".encode()
        return [pid for pid in _processes(b"corral.mcp_servers.host") if mark in _environ(pid)]


@dataclass(frozen=True)
class Side:
    """One server: its command (of a port, over HTTP), its call, and whether a host works for it."""

    name: str
    way: Literal["stdio", "http"]
    command: Callable[[int], list[str]]
    call: tuple[str, Message]
    has_host: bool = False
    announces: bool = False


def sides() -> list[Side]:
    """All that can be started here."""
    script = str(PROJECT / "corral" / "mcp_servers")
    found = [
        Side(
            "Corral files, no sandbox",
            "stdio",
            lambda _: [sys.executable, "-I", "-S", script, "files", "--root", "."],
            READ,
        ),
        Side("corral mcp serve files", "stdio", lambda _: [*CORRAL, *_SERVE, "files"], READ),
        Side(
            "corral mcp serve agents",
            "stdio",
            lambda _: [*CORRAL, *_SERVE, "agents"],
            LIST,
            has_host=True,
        ),
        Side("SDK MCPServer", "stdio", lambda _: _plain(sys.executable, "sdk", "stdio"), ECHO),
        Side("fastmcp", "stdio", lambda _: _plain(FASTMCP, "fastmcp", "stdio"), ECHO),
        Side("Node everything", "stdio", lambda _: [str(NODE), str(EVERYTHING), "stdio"], ECHO),
        Side(
            "corral mcp serve files",
            "http",
            lambda _: [*CORRAL, *_SERVE, "files", "--http"],
            READ,
            announces=True,
        ),
        Side(
            "corral mcp serve agents",
            "http",
            lambda _: [*CORRAL, *_SERVE, "agents", "--http"],
            LIST,
            has_host=True,
            announces=True,
        ),
        Side(
            "SDK MCPServer", "http", lambda port: _plain(sys.executable, "sdk", "http", port), ECHO
        ),
        Side("fastmcp", "http", lambda port: _plain(FASTMCP, "fastmcp", "http", port), ECHO),
        Side(
            "Node everything",
            "http",
            lambda _: [str(NODE), str(EVERYTHING), "streamableHttp"],
            ECHO,
        ),
    ]
    return [side for side in found if _is_there(side)]


_SERVE = ("mcp", "serve")


def _plain(python: Path | str, kind: str, way: str, *port: int) -> list[str]:
    return [str(python), "-m", "bench._mcp_server", kind, way, *map(str, port)]


def _is_there(side: Side) -> bool:
    program = Path(side.command(0)[0])
    if not program.exists():
        print(f"{side.name} is left out: there is no {program}; run: bash scripts/interop.sh")
    return program.exists()


@dataclass
class Running:
    """A server that has answered its first call, which took ``start`` seconds from its command."""

    connection: Connection
    start: float
    usage: Usage


@asynccontextmanager
async def running(side: Side, place: Place) -> AsyncIterator[Running]:
    """Start a server and have its first answer; it ends with this."""
    opened = _on_a_pipe if side.way == "stdio" else _at_a_url
    async with opened(side, place) as (connection, process, start):
        hosts = place.hosts() if side.has_host else []
        yield Running(connection, start, Usage([process.pid, *hosts]))


@asynccontextmanager
async def _on_a_pipe(side: Side, place: Place) -> AsyncIterator[tuple[Connection, Process, float]]:
    begun = now()
    piped = await Piped.start(side.command(0), place.env, place.workspace)
    await piped.call(*side.call)
    yield piped, piped.process, now() - begun
    await piped.close()


@asynccontextmanager
async def _at_a_url(side: Side, place: Place) -> AsyncIterator[tuple[Connection, Process, float]]:
    port = _free_port()
    silent: dict[str, Any] = dict.fromkeys(
        ("stdin", "stdout", "stderr"), asyncio.subprocess.DEVNULL
    )
    env = {**place.env, "PORT": str(port)}
    begun = now()
    process = await asyncio.create_subprocess_exec(
        *side.command(port), env=env, cwd=place.workspace, **silent
    )
    try:
        connection = await _reached(side, place, process, port, begun + _FOREVER)
        await connection.call(*side.call)
        yield connection, process, now() - begun
        await connection.close()
    finally:
        process.terminate()
        await process.wait()


async def _reached(side: Side, place: Place, process: Process, port: int, until: float) -> OverHttp:
    while True:
        url, token = f"http://127.0.0.1:{port}/mcp", ""
        try:
            if side.announces:
                url, token = _announced(place, process)
            return await OverHttp.start(url, token)
        except (OSError, asyncio.IncompleteReadError):
            if now() > until or process.returncode is not None:
                raise
            await asyncio.sleep(0.005)


def _announced(place: Place, process: Process) -> tuple[str, str]:
    """Where one of ours listens, as soon as it says so."""
    from corral.mcp_servers.serving.announcing import running as announced

    for one in announced(place.home):
        if one.pid == process.pid:
            return one.url, one.token
    raise ConnectionRefusedError


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _processes(word: bytes) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word in (folder / "cmdline").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def _environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
