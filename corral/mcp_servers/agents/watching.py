"""Watching a client's own runs and threads: how they stand is looked at again and again.

A run may be worked on by any process, and be answered or gone on with in a terminal: only the
database knows of every change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from corral.agents.hosting.contract import ENDED, HostedStatus, Report, Runs
from corral.mcp_servers.agents.definitions import MAX_LISTED
from corral.mcp_servers.agents.recent import Recent
from corral.mcp_servers.agents.resources import nothing, thread_or_run

_LOOK_SECONDS: Final = 0.5
_REST_SECONDS: Final = 2.0
"""The same where all has ended: only a person or the client's next message changes it."""


class _Stands(NamedTuple):
    """How a run stands, and what is asked in it: a change of these is told."""

    run: str
    status: HostedStatus
    asked: tuple[str, ...]


_Look = Callable[[], Awaitable[tuple[_Stands, ...]]]


class Watcher:
    """Watches for clients. All of the threads that one client watches are listed together."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._listings: WeakValueDictionary[str, Recent[list[Report]]] = WeakValueDictionary()

    async def watch(self, owner: str, uri: str) -> AsyncGenerator[None, None]:
        """The changes of what is at the address of a run or a thread, from now on.

        Raises ``NotFoundError`` where there is none of this owner's.
        """
        kind, name = thread_or_run(uri)
        look = self._run(owner, name) if kind == "runs" else self._thread(owner, name)
        return _changes(look, await look())

    def _run(self, owner: str, run: str) -> _Look:
        async def look() -> tuple[_Stands, ...]:
            return (_stands(await self._runs.report(owner, run)),)

        return look

    def _thread(self, owner: str, thread: str) -> _Look:
        listing = self._listings.setdefault(owner, self._newest(owner))

        async def look() -> tuple[_Stands, ...]:
            turns = (one for one in await listing.get() if one.thread == thread)
            if found := tuple(map(_stands, turns)):
                return found
            raise nothing(f"corral://threads/{thread}")

        return look

    def _newest(self, owner: str) -> Recent[list[Report]]:
        return Recent(lambda: self._runs.listing(owner, MAX_LISTED), _LOOK_SECONDS / 2)


async def _changes(look: _Look, seen: tuple[_Stands, ...]) -> AsyncGenerator[None, None]:
    while True:
        has_ended = all(run.status in ENDED for run in seen)
        await asyncio.sleep(_REST_SECONDS if has_ended else _LOOK_SECONDS)
        found = await look()
        if found != seen:
            seen = found
            yield


def _stands(report: Report) -> _Stands:
    return _Stands(report.run, report.status, tuple(one.id for one in report.approvals))
