"""The connections that a tool call makes: effects of their own, under the call's place.

Nobody asks for one again: a replay makes none, and a call that is made again makes new ones. So
they have no station but the journal, and belong to their call as a question about it does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from corral.jsontypes import JsonObject
from corral.runtime.effects import Attempt, Effect, Outcome
from corral.runtime.entries import Entry
from corral.runtime.journal import Journal
from corral.sandbox.network.traffic import Attempted, Ended, Meter, Unmetered


@dataclass(frozen=True)
class Connections:
    """A ``Watch`` that journals what the call at ``path`` reaches. ``clean`` redacts."""

    journal: Journal
    path: str
    clean: Callable[[JsonObject], JsonObject]
    _numbers: count[int] = field(default_factory=lambda: count(1))

    async def __call__(self, attempted: Attempted) -> Meter:
        """Record that a connection is about to be opened, or is not. Raises ``StorageError``."""
        effect = Effect(
            kind="connection",
            name=f"{attempted.host}:{attempted.port}",
            request=self.clean(_request(attempted)),
            execute=_never,
        )
        entry = await self.journal.start(self._place(), effect, self.journal.identify(effect))
        return _Recorded(self.journal, entry, self.clean)

    def _place(self) -> str:
        places = (f"{self.path}/connection/{number}" for number in self._numbers)
        return next(place for place in places if self.journal.find(place) is None)


@dataclass(frozen=True)
class _Recorded(Unmetered):
    """The end of one connection; what flows meanwhile is in it."""

    journal: Journal
    entry: Entry
    clean: Callable[[JsonObject], JsonObject]

    async def ended(self, end: Ended) -> None:
        """See ``Meter``."""
        await self.journal.finish(self.entry, Outcome(self.clean(_result(end))), end.duration_ms)


def _request(attempted: Attempted) -> JsonObject:
    request: JsonObject = {
        "host": attempted.host,
        "port": attempted.port,
        "method": attempted.method,
        "path": attempted.path,
        "addresses": list(attempted.addresses),
        "allowed": not attempted.refused,
    }
    told = {"refused": attempted.refused, "shared": attempted.shared, "reused": attempted.reused}
    return {**request, **{name: value for name, value in told.items() if value}}


def _result(end: Ended) -> JsonObject:
    result: JsonObject = {"sent": end.sent, "received": end.received}
    told = {"address": end.address, "status": end.status, "error": end.error, "open": end.is_open}
    return {**result, **{name: value for name, value in told.items() if value}}


async def _never(_attempt: Attempt) -> Outcome:
    raise AssertionError("a connection is made by a tool server, and only recorded here")
