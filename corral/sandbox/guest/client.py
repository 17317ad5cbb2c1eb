"""Sessions for a server that runs inside a sandbox itself: its fork server, and calls to it."""

from __future__ import annotations

import json
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from socket import SHUT_RDWR, socket, socketpair
from typing import Any, NamedTuple, NoReturn

from corral.sandbox.guest import control, init
from corral.sandbox.guest.child import Language
from corral.sandbox.guest.keeper import GRACE
from corral.sandbox.guest.outcome import Outcome, read_outcome

_CHUNK = 1 << 18
_LOOK = 0.1
_STREAMED = '{"stream": '
_OVERDUE = 5.0  # seconds; a keeper that is this late has been broken by the code
_BROKEN = 70


class Order(NamedTuple):
    """What is to be run, and how: ``packages`` is a folder to import from, or empty.

    ``cancelled`` is asked while it runs; ``output`` is called with each piece of output.
    """

    code: str
    seconds: float
    packages: str = ""
    cancelled: Callable[[], bool] = lambda: False
    output: Callable[[str], None] | None = None


def end_everything() -> NoReturn:
    """End this server, and with it the sandbox: code has stopped or killed what looks after it.

    A signal is all that code can do to that, and only so does nothing of the code stay.
    """
    os.write(2, b"The code has broken what looks after it; everything here is ended.\n")
    os._exit(_BROKEN)


class Below:
    """A module of this folder at work in a fork of this process, and the channel to it.

    This process must have a single thread when it is made.
    """

    def __init__(self, main: Callable[[list[str]], int], arguments: list[str]) -> None:
        ours, theirs = socketpair()
        if os.fork() == 0:
            try:
                os.dup2(theirs.fileno(), 0)
                os.closerange(3, 1 << 20)
                main(arguments)
            finally:
                os._exit(0)
        theirs.close()
        self.channel = ours
        self._sending = threading.Lock()

    def send(self, request: dict[str, object], descriptors: list[int]) -> None:
        """Send one request (``control``); the descriptors stay open here."""
        with self._sending:
            control.send(self.channel, request, descriptors)

    def close(self) -> None:
        """Close the channel, which ends the process."""
        self.channel.close()


class ForkServer:
    """Makes sessions. ``modules`` are imported ahead, also from the folder ``packages``."""

    def __init__(self, packages: str, modules: Sequence[str]) -> None:
        self._below = Below(init.main, [packages, *modules])

    def session(self, language: Language) -> SessionClient:
        """A new session in the current folder; it begins to get ready at once."""
        ours, theirs = socketpair()
        with theirs:
            try:
                self._below.send({"op": "session", "language": language}, [theirs.fileno()])
            except (BrokenPipeError, ConnectionResetError):
                end_everything()
        return SessionClient(ours)

    def close(self) -> None:
        """End the fork server. Sessions end when they are closed."""
        self._below.close()


class SessionClient:
    """The client's end of one session. Not for two threads."""

    def __init__(self, stream: socket) -> None:
        self._stream = stream
        self._buffer = bytearray()

    def run(self, order: Order) -> Outcome | None:
        """Run code; ``None`` if the session is broken and has to be closed."""
        message = {"code": order.code, "seconds": order.seconds, "packages": order.packages}
        if not self._send({**message, "stream": order.output is not None}):
            return None
        overdue = time.monotonic() + order.seconds + GRACE + _OVERDUE
        stopped = False
        while time.monotonic() < overdue:
            if not stopped and order.cancelled():
                stopped = self._send({"stop": "cancelled"})
                overdue = time.monotonic() + GRACE + _OVERDUE
            line = self._receive()
            if line is None:
                return None
            if order.output is not None and line.startswith(_STREAMED):
                order.output(json.loads(line)["text"])
            elif line:
                return read_outcome(line)
        end_everything()

    def renew(self) -> None:
        """Start clean: nothing that was defined is left. It gets ready by itself."""
        self._send({"renew": True})

    def end(self) -> None:
        """End the session and everything that it started, also while a thread is in ``run``."""
        with suppress(OSError):
            self._stream.shutdown(SHUT_RDWR)

    def close(self) -> None:
        """End it and give the socket back; not while a thread is in ``run``."""
        self._stream.close()

    def _send(self, message: dict[str, Any]) -> bool:
        try:
            self._stream.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def _receive(self) -> str | None:
        """The next line, an empty one if there is none soon, ``None`` at the end."""
        while b"\n" not in self._buffer:
            if not select.select([self._stream], [], [], _LOOK)[0]:
                return ""
            data = self._stream.recv(_CHUNK)
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", "replace")
