"""Sessions in a sandbox of this machine, seen from the host.

Each has a socket of its own to its keeper inside (``corral.sandbox.guest.keeper``), which runs
the code, keeps its time and ends it. What the keeper says is untrusted: it is bounded, checked, and
not waited for without end.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from corral.errors import SandboxError
from corral.sandbox.contract import Display, Execution
from corral.sandbox.guest.keeper import GRACE
from corral.sandbox.guest.outcome import LOST, Outcome, read_outcome
from corral.sandbox.local.control import Control

Language = Literal["python", "shell"]
Status = Literal["ok", "error", "timeout", "interrupted", "crashed", "cancelled"]

_MAX_ANSWER = 32 * 1024 * 1024
_OVERDUE = 5.0
_SPARE, _MOST_SPARE = 2, 4


class Line(asyncio.Protocol):
    """Whole lines from a socket, one at a time."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._waiting: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport | None = None

    async def next(self) -> str | None:
        """The next line, or ``None`` at the end and after a line that is too long."""
        if self.transport is not None and b"\n" not in self._data:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        line, newline, rest = self._data.partition(b"\n")
        self._data = rest
        return line.decode("utf-8", "replace") if newline else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is in use from now on."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Some bytes."""
        self._data += data
        if data.endswith(b"\n"):
            self._tell()
        elif len(self._data) > _MAX_ANSWER:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """There will be no more."""
        del exc
        self.transport = None
        self._tell()

    def close(self) -> None:
        """Close the socket, which ends the session. Safe to call twice."""
        if self.transport is not None:
            self.transport.abort()

    def _tell(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


@dataclass(frozen=True)
class Place:
    """Where sessions are opened: a sandbox's control channel, and its packages.

    ``end`` ends the sandbox: the only way where code has stopped what looks after a session.
    """

    control: Control
    end: Callable[[], None]
    packages: Sequence[Path] = ()

    @property
    def folders(self) -> str:
        """The packages as the guest has them."""
        return ":".join(str(folder) for folder in self.packages)

    async def connect(self, language: Language) -> Line:
        """Begin a session. Raises ``SandboxError`` when the sandbox has ended."""
        ours, theirs = socket.socketpair()
        request: dict[str, object] = {"op": "session", "language": language}
        try:
            with theirs:
                await self.control.send(request, [theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        _, line = await loop.connect_accepted_socket(Line, ours)
        return line


class LocalSession:
    """An interpreter or shell that keeps its state; a ``Session``."""

    def __init__(self, place: Place, language: Language, line: Line) -> None:
        self._place = place
        self._language: Language = language
        self._line: Line | None = line
        self._lock = asyncio.Lock()
        self._running = False
        self._unread = False
        self._closed = False

    async def run(self, code: str, *, seconds: float | None = 60.0) -> Execution:
        """Run code; calls wait for each other. Cancelling the task interrupts the code."""
        async with self._lock:
            line = await self._connected()
            packages = self._place.folders
            _write(line, {"code": code, "seconds": seconds, "packages": packages})
            answer = await self._answer(line, seconds)
            outcome = None if answer is None else read_outcome(answer)
            if outcome is None:
                self._drop()
            return _execution(outcome or LOST)

    async def interrupt(self) -> None:
        """Interrupt what runs, as Ctrl-C would. What was defined stays."""
        if self._running and self._line is not None:
            _write(self._line, {"stop": "interrupted"})

    @property
    def closed(self) -> bool:
        """Whether it was closed for good."""
        return self._closed

    def renew(self) -> None:
        """Have it start clean by itself; the next call waits until that is done."""
        if self._line is not None:
            _write(self._line, {"renew": True})

    async def restart(self) -> None:
        """Start clean; what runs is ended."""
        self._drop()
        async with self._lock:
            await self._connected()

    async def aclose(self) -> None:
        """End it and everything that it started. Safe to call twice."""
        self._closed = True
        self._drop()

    async def _connected(self) -> Line:
        if self._line is not None and self._unread:
            self._unread = False
            if await self._answer(self._line, 0.0) is None:
                self._drop()
        if self._closed:
            raise SandboxError("The session is closed.", hint="Open a new one.")
        if self._line is None or self._line.transport is None:
            self._line = await self._place.connect(self._language)
        return self._line

    def _drop(self) -> None:
        self._unread = False
        if self._line is not None:
            self._line.close()
            self._line = None

    def _give_up(self, line: Line) -> None:
        line.close()
        self._place.end()

    async def _answer(self, line: Line, seconds: float | None) -> str | None:
        """What the keeper says in the end; ``None`` if it says nothing long after its time."""
        overdue = None
        if seconds is not None:
            loop = asyncio.get_running_loop()
            overdue = loop.call_later(seconds + GRACE + _OVERDUE, self._give_up, line)
        self._running = True
        try:
            return await line.next()
        except asyncio.CancelledError:
            _write(line, {"stop": "cancelled"})
            self._unread = True
            raise
        finally:
            self._running = False
            if overdue is not None:
                overdue.cancel()


class LocalSessions:
    """The sessions of one sandbox, and the interpreters that wait ready for fresh code."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._open: list[LocalSession] = []
        self._spare: list[LocalSession] = []

    async def open(self, language: Language) -> LocalSession:
        """A new session; it gets ready while this returns."""
        self._open = [one for one in self._open if not one.closed]
        session = LocalSession(self._place, language, await self._place.connect(language))
        self._open.append(session)
        return session

    async def run_fresh(self, code: str, *, seconds: float | None) -> Execution:
        """Run Python in an interpreter that nothing ran in before; then another gets ready."""
        session = self._spare.pop(0) if self._spare else await self.open("python")
        try:
            execution = await session.run(code, seconds=seconds)
        except BaseException:
            await session.aclose()
            raise
        session.renew()
        self._spare.append(session)
        while len(self._spare) < _SPARE:
            self._spare.append(await self.open("python"))
        for extra in self._spare[_MOST_SPARE:]:
            await extra.aclose()
        del self._spare[_MOST_SPARE:]
        return execution

    async def aclose(self) -> None:
        """End all of them. Safe to call twice."""
        for session in self._open:
            await session.aclose()
        self._open.clear()
        self._spare.clear()


def _write(line: Line, message: dict[str, Any]) -> None:
    if line.transport is not None:
        line.transport.write(json.dumps(message).encode() + b"\n")


def _execution(outcome: Outcome) -> Execution:
    _, stdout, stderr, value, displays, error, note, dropped = outcome
    return Execution(
        cast("Status", outcome.status),
        stdout,
        stderr,
        value,
        tuple(Display(mime, content) for mime, content in displays),
        error,
        note,
        dropped,
    )
