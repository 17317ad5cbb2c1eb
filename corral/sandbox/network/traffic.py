"""What is told of every connection: that one is wanted, what flows, and how it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Protocol

from corral.errors import CorralError


@dataclass(frozen=True)
class Attempted:
    """One connection that the sandbox asks for, before it is opened.

    ``method`` is that of the HTTP request, ``CONNECT`` for a tunnel that nobody reads and ``TCP``
    for a forwarded port; ``path`` has no query. ``addresses`` are those that were checked, in the
    order in which they are tried. ``refused`` says why it is not opened, and is empty if it is.
    ``shared``: several calls were under way, and nobody knows for which of them it was made.
    ``reused``: it was opened earlier and goes on being used.
    """

    host: str
    port: int
    method: str
    path: str = ""
    addresses: tuple[str, ...] = ()
    refused: str = ""
    shared: bool = False
    reused: bool = False


@dataclass(frozen=True)
class Ended:
    """How a connection ended: bytes each way, milliseconds, the status of an HTTP answer.

    ``address`` is the one that was connected to, ``error`` says what went wrong. ``is_open``: it
    goes on, and only what it is recorded for is over.
    """

    sent: int = 0
    received: int = 0
    duration_ms: float = 0.0
    status: int | None = None
    address: str = ""
    error: str = ""
    is_open: bool = False


class Meter(Protocol):
    """What is told of one connection while it lasts."""

    async def flows(self, sent: int, received: int) -> None:
        """So many bytes are about to be passed on. They wait until this returns."""
        ...

    async def ended(self, end: Ended) -> None:
        """It is over."""
        ...


Watch = Callable[[Attempted], Awaitable[Meter]]
"""Awaited before a connection is opened or refused. What it raises keeps it from being opened; the
words of a ``CorralError`` are told to the sandbox."""


class Unmetered:
    """A ``Meter`` that keeps nothing."""

    async def flows(self, sent: int, received: int) -> None:
        """See ``Meter``."""

    async def ended(self, end: Ended) -> None:
        """See ``Meter``."""


async def unwatched(_attempted: Attempted) -> Meter:
    """A ``Watch`` for which nothing is kept."""
    return Unmetered()


@dataclass
class Record:
    """One connection while it lasts: what has flowed, and what is known of its end."""

    meter: Meter
    began: float = field(default_factory=monotonic)
    end: Ended = field(default_factory=Ended)

    async def sends(self, size: int) -> None:
        """So many bytes go out of the sandbox."""
        await self.meter.flows(size, 0)
        self.end = replace(self.end, sent=self.end.sent + size)

    async def receives(self, size: int) -> None:
        """So many bytes go into the sandbox."""
        await self.meter.flows(0, size)
        self.end = replace(self.end, received=self.end.received + size)

    def answered(self, status: int) -> None:
        """The service answered with this status."""
        self.end = replace(self.end, status=status)

    def connected(self, address: str) -> None:
        """The connection was opened to this address."""
        self.end = replace(self.end, address=address)

    def failed(self, error: str) -> None:
        """It went wrong; the first reason counts."""
        self.end = replace(self.end, error=self.end.error or error)


class UnrecordedError(Exception):
    """A connection may not be opened, because it could not be told of; the text says why."""


@asynccontextmanager
async def recorded(watch: Watch, attempted: Attempted) -> AsyncIterator[Record]:
    """A connection from its announcement to its end, whatever happens in the body.

    Raises ``UnrecordedError``.
    """
    try:
        record = Record(await watch(attempted))
    except CorralError as error:
        raise UnrecordedError(error.message) from error
    try:
        yield record
    except BaseException as error:
        record.failed(str(error) or type(error).__name__)
        raise
    finally:
        took = (monotonic() - record.began) * 1000
        await record.meter.ended(replace(record.end, duration_ms=took))
