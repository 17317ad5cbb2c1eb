"""Whose a connection is: that of the calls that its server is answering while bytes flow.

A server that answers one call at a time is exact; with several under way all of them are told, and
that it is shared. A connection that outlives its call is told to the next one when it is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from time import monotonic

import structlog

from corral.errors import ToolServerError
from corral.sandbox.network.traffic import Attempted, Ended, Meter, Watch

MOST = 1000
"""Connections that one call may make: each of them is recorded."""

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class _Call:
    """A call under way, and how many connections it was told of."""

    watch: Watch
    told: int = 0

    def count(self) -> None:
        """Raises ``ToolServerError`` when there are too many."""
        if self.told >= MOST:
            raise ToolServerError(
                f"A call has made more than {MOST:,} connections, and may make no more.",
                hint="Split it into several calls.",
            )
        self.told += 1


@dataclass
class _Told:
    """What a call knows of a connection, and what had flowed when it was told."""

    meter: Meter
    sent: int
    received: int
    began: float

    def end(self, whole: Ended) -> Ended:
        """The part of a connection's end that is this call's."""
        took = (monotonic() - self.began) * 1000
        sent, received = whole.sent - self.sent, whole.received - self.received
        return replace(whole, sent=sent, received=received, duration_ms=took)


class Attribution:
    """The calls of one server, and its connections. ``watch`` is what its proxy is opened with."""

    def __init__(self, server: str) -> None:
        self._server = server
        self.calls: list[_Call] = []
        self.connections: set[_Connection] = set()

    @asynccontextmanager
    async def call(self, watch: Watch | None) -> AsyncIterator[None]:
        """A call under way as long as the body lasts; ``watch`` is told of its connections."""
        if watch is None:
            yield
            return
        call = _Call(watch)
        self.calls.append(call)
        try:
            yield
        finally:
            self.calls.remove(call)
            for connection in tuple(self.connections):
                await connection.leave(call)

    async def watch(self, attempted: Attempted) -> Meter:
        """See ``Watch``."""
        if not self.calls:
            log.info(
                "connection_outside_of_a_call",
                server=self._server,
                host=attempted.host,
                port=attempted.port,
                refused=attempted.refused,
            )
        connection = _Connection(attempted, self)
        await connection.tell(reused=False)
        self.connections.add(connection)
        return connection


class _Connection:
    """A ``Meter`` that tells every call under way."""

    def __init__(self, attempted: Attempted, owner: Attribution) -> None:
        self._attempted = attempted
        self._owner = owner
        self._told: dict[_Call, _Told] = {}
        self._telling = asyncio.Lock()
        self._flowed = Ended()

    async def flows(self, sent: int, received: int) -> None:
        """See ``Meter``."""
        if not self._told.keys() >= set(self._owner.calls):
            await self.tell(reused=True)
        was = self._flowed
        self._flowed = replace(was, sent=was.sent + sent, received=was.received + received)

    async def ended(self, end: Ended) -> None:
        """See ``Meter``."""
        self._owner.connections.discard(self)
        async with self._telling:
            told = list(self._told.values())
            self._told.clear()
        for one in told:
            await one.meter.ended(one.end(end))

    async def leave(self, call: _Call) -> None:
        """The call is over, and the connection is not."""
        async with self._telling:
            told = self._told.pop(call, None)
        if told is not None:
            await told.meter.ended(told.end(replace(self._flowed, is_open=True)))

    async def tell(self, *, reused: bool) -> None:
        """Tell every call under way that does not know of it yet."""
        async with self._telling:
            new = [call for call in self._owner.calls if call not in self._told]
            shared = len(self._owner.calls) > 1
            attempted = replace(self._attempted, shared=shared, reused=reused)
            for call in new:
                call.count()
                meter = await call.watch(attempted)
                flowed = self._flowed
                self._told[call] = _Told(meter, flowed.sent, flowed.received, monotonic())
