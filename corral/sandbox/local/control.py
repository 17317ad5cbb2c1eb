"""The host's end of the control channel into a sandbox (``corral.sandbox.guest.control``).

What comes out of a sandbox is untrusted: it can be cut, endless or nonsense, and it can stop being
read. Nothing here waits for it without the event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from corral.errors import SandboxError
from corral.sandbox.guest import control

_READY = b"ready\n"
_CREDENTIALS = struct.Struct("3i")
_ROOM = 1024


@dataclass(frozen=True)
class Ready:
    """What a guest said when it could take requests: its process id on this machine, by the
    kernel's word, and its working folder as an open descriptor (where the system between passes
    such on). Nothing untrusted had run by then.
    """

    pid: int
    folder: int | None


class Control:
    """Requests to one guest. ``end`` is the socket that the guest gets as its standard input."""

    def __init__(self) -> None:
        self._ours, self.end = socket.socketpair()
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._ours.setblocking(False)
        self._sending = asyncio.Lock()

    async def ready(self) -> Ready:
        """Wait for the guest's greeting. Raises ``SandboxError`` if it ends instead."""
        await _readable(self._ours)
        data, ancillary, _, _ = self._ours.recvmsg(_ROOM, _ROOM)
        folder, pid = None, 0
        for level, kind, value in ancillary:
            if level != socket.SOL_SOCKET:
                continue
            if kind == socket.SCM_RIGHTS:
                folder = struct.unpack_from("i", value)[0]
                os.set_inheritable(folder, False)
            elif kind == socket.SCM_CREDENTIALS:
                pid = _CREDENTIALS.unpack_from(value)[0]
        if data != _READY:
            raise SandboxError("The sandbox ended while it started.", hint="See corral doctor.")
        return Ready(pid, folder)

    async def send(self, request: dict[str, object], descriptors: Sequence[int]) -> None:
        """Send one request. The descriptors stay open here.

        Raises ``SandboxError`` when the sandbox has ended.
        """
        rest = memoryview(control.encode(request))
        rights = list(descriptors)
        async with self._sending:
            while rest:
                try:
                    sent = socket.send_fds(self._ours, [rest], rights)
                except BlockingIOError:
                    await _writable(self._ours)
                    continue
                except OSError as error:
                    raise SandboxError("The sandbox has ended.", hint="Open a new one.") from error
                rest, rights = rest[sent:], []

    def close(self) -> None:
        """Close both ends; the guest ends when it sees that. Safe to call twice."""
        self._ours.close()
        self.end.close()


async def _readable(channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(channel, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_reader(channel)


async def _writable(channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(channel, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(channel)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
