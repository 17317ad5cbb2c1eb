"""Commands inside a sandbox, seen from the host: their pipes, their time, their end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import cast

from corral.errors import SandboxError
from corral.sandbox.contract import Command, Reason, Usage
from corral.sandbox.guest.minder import KILL, NOT_FOUND, NOT_STARTED
from corral.sandbox.local.control import Control

GRACE = 1.0
"""Seconds that a command has to be gone after it was told to end; then the sandbox is ended."""

KILLED = 128 + signal.SIGKILL
_MAX_STATUS = 4096
BY_SIGNAL: dict[int, tuple[Reason, str]] = {
    128 + signal.SIGXCPU: ("cpu", "A process used more than its limit of processor time."),
    128 + signal.SIGXFSZ: ("written", "A file would have grown beyond its limit."),
}


@dataclass(frozen=True)
class Ended:
    """How a command ended, as its minder says; ``None`` for the code when there was no word."""

    code: int | None
    detail: str = ""
    usage: Usage = field(default_factory=Usage)


class Output(asyncio.Protocol):
    """Reads one stream to its end."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._transport: asyncio.ReadTransport
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Some of it."""
        self._take(data)

    def pause(self, *, waiting: bool) -> None:
        """Read no more for now, or go on."""
        if waiting:
            self._transport.pause_reading()
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """That was all of it."""
        del exc
        if not self.done.done():
            self.done.set_result(None)


class Running:
    """A command under way; make it with ``started``."""

    def __init__(self, command: Command, status: socket.socket) -> None:
        self._command = command
        self._status = status
        self._began = time.monotonic()
        self._ended = asyncio.create_task(self._follow())

    async def wait(self) -> Ended:
        """Its end, with everything that it started gone."""
        return await asyncio.shield(self._ended)

    async def gone(self) -> bool:
        """End it; whether everything of it is gone soon after."""
        with contextlib.suppress(OSError):
            self._status.send(KILL)
        done, _ = await asyncio.wait({self._ended}, timeout=GRACE)
        return bool(done) and self._ended.result().code is not None

    def close(self) -> None:
        """Let it go. If it still runs, that ends it."""
        self._ended.cancel()
        self._status.close()

    async def _follow(self) -> Ended:
        loop = asyncio.get_running_loop()
        said = b""
        # The other side is untrusted: more than this is no status.
        while len(said) < _MAX_STATUS:
            try:
                data = await loop.sock_recv(self._status, _MAX_STATUS)
            except OSError:
                break
            if not data:
                break
            said += data
        for line in said.decode("utf-8", "replace").splitlines():
            ended = self._understood(line.split())
            if ended is not None:
                return ended
        return Ended(None)

    def _understood(self, words: list[str]) -> Ended | None:
        wall = time.monotonic() - self._began
        try:
            match words:
                case ["ended", code, cpu, peak]:
                    usage = Usage(wall, float(cpu), int(peak))
                    return Ended(int(code) & 0xFF, usage=usage)
                case ["failed", "cwd", number]:
                    return Ended(NOT_STARTED, self._failed(str(self._command.cwd), int(number)))
                case ["failed", _, number]:
                    missing = int(number) == errno.ENOENT
                    return Ended(
                        NOT_FOUND if missing else NOT_STARTED,
                        self._failed(self._command.argv[0], int(number)),
                    )
        except (ValueError, OverflowError):
            return None
        return None

    def _failed(self, what: str, number: int) -> str:
        return f"{what!r} could not be started or entered: {os.strerror(number)}."


@asynccontextmanager
async def started(
    control: Control, command: Command, take: Callable[[str, bytes], None]
) -> AsyncIterator[tuple[Running, list[Output]]]:
    """Start a command; ``take`` is given a stream's name and each piece of it.

    At the end of the context whatever still runs of it is ended.
    """
    if not command.argv or any("\0" in word for word in command.argv):
        raise SandboxError(
            "A command for the sandbox is empty or holds a NUL character.",
            hint="Correct the command.",
        )
    with ExitStack() as ours:
        status, theirs = socket.socketpair()
        status.setblocking(False)
        ours.callback(status.close)
        with ExitStack() as given:
            given.callback(theirs.close)
            stdin, feed = os.pipe()
            given.callback(os.close, stdin)
            writer = await _writer(feed)
            ours.callback(_abort, writer)
            sinks, outputs = [], []
            for name in ("stdout", "stderr"):
                source, sink = os.pipe()
                given.callback(os.close, sink)
                sinks.append(sink)
                transport, output = await _reader(source, partial(take, name))
                ours.callback(transport.close)
                outputs.append(output)
            await control.send(_request(command), [theirs.fileno(), stdin, *sinks])
        running = Running(command, status)
        ours.callback(running.close)
        writer.write(command.stdin)
        writer.close()
        yield running, outputs


def _request(command: Command) -> dict[str, object]:
    return {
        "op": "run",
        "argv": list(command.argv),
        "cwd": str(command.cwd or PurePosixPath()),
        "env": dict(command.env),
    }


async def _writer(feed: int) -> asyncio.WriteTransport:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_write_pipe(
        asyncio.BaseProtocol, os.fdopen(feed, "wb", buffering=0)
    )
    return transport


def _abort(writer: asyncio.WriteTransport) -> None:
    """Close a transport with all that was not written. One that is closed already cannot be."""
    if writer.get_write_buffer_size() or not writer.is_closing():
        writer.abort()


async def _reader(
    source: int, take: Callable[[bytes], None]
) -> tuple[asyncio.ReadTransport, Output]:
    loop = asyncio.get_running_loop()
    return await loop.connect_read_pipe(partial(Output, take), os.fdopen(source, "rb", buffering=0))
