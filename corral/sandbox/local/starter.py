"""Start launches through one launcher that stays, and follow them to their end.

The launcher is started at the first use and ends with this process. Each launch has a lifeline, a
socket to its supervisor: when that is closed, for whatever reason, the whole tree ends.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from corral.errors import SandboxError
from corral.sandbox import host
from corral.sandbox.contract import Launch, Reason, Usage
from corral.sandbox.launcher.order import VARIABLE, Order

_LINE = 64 * 1024
_NOT_STARTED = 125


@dataclass(frozen=True)
class End:
    """How a launch ended: exit status as a shell has it, why, in words, and what it used."""

    code: int
    reason: Reason = "exited"
    detail: str = ""
    usage: Usage = field(default_factory=Usage)


class Server:
    """The launcher of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def request(self, descriptors: Sequence[int]) -> None:
        """Ask for one launch; raises ``BlockingIOError`` when too many are waiting already."""
        with self._lock:
            if self._owner != os.getpid() or not self._alive():
                self._start()
            try:
                self._send(descriptors)
            except (BrokenPipeError, ConnectionError):
                self._start()
                self._send(descriptors)

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _send(self, descriptors: Sequence[int]) -> None:
        assert self._requests is not None
        socket.send_fds(self._requests, [b"."], descriptors)

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if self._requests is not None:
            self._requests.close()
        with theirs:
            self._process = subprocess.Popen(
                [*host.launcher_command(), "--serve"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={},
                cwd="/",
            )
        ours.setblocking(False)
        self._requests = ours
        self._owner = os.getpid()


_SERVER = Server()


class Started(asyncio.Protocol):
    """A launch that runs, or did. Make it with ``start``."""

    def __init__(self, on_breach: Callable[[Reason, str], None] | None) -> None:
        loop = asyncio.get_running_loop()
        self._on_breach = on_breach
        self._pid: asyncio.Future[int] = loop.create_future()
        self._end: asyncio.Future[End] = loop.create_future()
        self._frozen: asyncio.Future[bool] | None = None
        self._data = b""
        self._transport: asyncio.WriteTransport

    async def pid(self) -> int:
        """The process id of what the launcher started: the outermost of the tree."""
        return await asyncio.shield(self._pid)

    async def wait(self) -> End:
        """Its end, with everything below it gone."""
        return await asyncio.shield(self._end)

    @property
    def ended(self) -> End | None:
        """How it ended, once it has."""
        return self._end.result() if self._end.done() else None

    def kill(self) -> None:
        """End the whole tree; ``wait`` says when that is done."""
        self._tell("kill")

    def spare(self, pid: int) -> None:
        """Too much memory is from now on no reason to end ``pid``, only what runs below it."""
        self._tell(f"spare {pid}")

    async def freeze(self, *, frozen: bool) -> None:
        """Stop every process where it is, or let all of them go on."""
        self._frozen = asyncio.get_running_loop().create_future()
        self._tell("freeze" if frozen else "thaw")
        await self._frozen

    def _tell(self, order: str) -> None:
        if not self._end.done():
            self._transport.write(f"{order}\n".encode())

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The lifeline is open."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """The supervisor says something."""
        *lines, self._data = (self._data + data).split(b"\n")
        for line in lines:
            self._happened(json.loads(line))

    def connection_lost(self, exc: Exception | None) -> None:
        """The supervisor is gone, and with it everything."""
        del exc
        self._finish(End(_NOT_STARTED, "killed", "its supervisor ended without a word"))

    def _happened(self, event: dict[str, Any]) -> None:
        match event:
            case {"pid": int(pid)}:
                self._pid.set_result(pid)
            case {"breach": reason, "detail": str(detail)} if self._on_breach is not None:
                self._on_breach(reason, detail)
            case {"frozen": bool(frozen)}:
                if self._frozen and not self._frozen.done():
                    self._frozen.set_result(frozen)
            case {"ended": dict(end)}:
                usage = Usage(end["wall_seconds"], end["cpu_seconds"], end["peak_memory"])
                self._finish(End(end["code"], end["reason"], end["detail"], usage))

    def _finish(self, end: End) -> None:
        if self._end.done():
            return
        self._end.set_result(end)
        gone = SandboxError("The sandbox has ended.", hint="Open a new one.")
        for waiting in (self._pid, self._frozen):
            if waiting is not None and not waiting.done():
                waiting.set_exception(gone)
                waiting.exception()  # nobody may be waiting
        self._transport.close()


async def start(
    launch: Launch,
    streams: tuple[int, int, int],
    on_breach: Callable[[Reason, str], None] | None = None,
    scratch: Sequence[str] = (),
) -> Started:
    """Start a launch of a back end of this machine, with descriptors as its standard streams.

    ``on_breach`` is told of limits that end a part of the tree. ``scratch`` are folders that are
    removed at its end, whoever lives to see it. The descriptors stay open here.
    Raises ``SandboxError`` when the launcher cannot be reached.
    """
    ours, theirs = socket.socketpair()
    text = launch.env[VARIABLE]
    if scratch:
        wanted = Order.from_text(text)
        text = wanted._replace(scratch=[*wanted.scratch, *scratch]).to_text()
    order = _sealed(text.encode())
    try:
        with theirs:
            await _request([order, *streams, theirs.fileno()])
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        _, started = await loop.connect_accepted_socket(lambda: Started(on_breach), ours)
        return started
    except OSError as error:
        ours.close()
        raise SandboxError(
            f"No sandbox could be started: {error}.", hint="See corral doctor."
        ) from error
    finally:
        os.close(order)


async def _request(descriptors: Sequence[int]) -> None:
    while True:
        try:
            _SERVER.request(descriptors)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS):
                raise
            await asyncio.sleep(0.001)
        else:
            return


def _sealed(data: bytes) -> int:
    fd = os.memfd_create("corral", os.MFD_CLOEXEC)
    with os.fdopen(fd, "wb", closefd=False) as file:
        file.write(data)
    return fd
