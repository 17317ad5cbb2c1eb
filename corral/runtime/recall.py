"""Several effects under way in one task: who ended first decides what a node does next.

A run that is gone on with gets what it had in the order in which it had got it. And whatever is
live ends one after the other, far enough apart for the graph to act on each: what a node does
then depends on an order that the journal knows, and not on what an event loop happens to do.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)

import structlog

from corral.runtime.effects import Outcome
from corral.runtime.entries import Entry
from corral.runtime.journal import Journal
from corral.runtime.paths import is_about_another, root

log = structlog.get_logger()

SETTLE = 100
"""Turns of the event loop in which a graph acts on one end, before it is told of the next."""

PATIENCE = 5.0
"""Seconds to wait for an effect that ended earlier to be asked for."""


class Recall:
    """The order of ends in one execution of a run."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._before = _order(journal)
        self._given: dict[str, asyncio.Event] = {}
        self._under_way: Counter[str] = Counter()
        self._ending: dict[str, asyncio.Lock] = {}
        self._at_work: dict[str, asyncio.Future[None]] = {}

    async def answer(self, entry: Entry) -> Outcome:
        """What a settled entry's effect gave; raises what it raised.

        One that the graph did not wait for ends only by being cancelled again.
        """
        if self._journal.was_given_up(entry):
            await asyncio.get_running_loop().create_future()
        before = self._before.get(entry.path)
        if before is None:
            return entry.outcome()
        if before:
            await self._wait_for(before, entry)
        await _settle()
        self._gift(entry.path).set()
        return entry.outcome()

    @contextmanager
    def under_way(self, path: str) -> Iterator[None]:
        """The effect at ``path`` is being made."""
        task = root(path)
        done = asyncio.get_running_loop().create_future()
        self._under_way[task] += 1
        self._at_work[path] = done
        try:
            yield
        finally:
            self._under_way[task] -= 1
            del self._at_work[path]
            done.set_result(None)

    async def quiet(self, scope: str = "") -> None:
        """Wait until nothing is being made in a graph: who ends it must not leave a call in doubt.

        ``scope`` is the path of the graph, with ``/``; empty for the run's own.
        """
        left = [done for path, done in self._at_work.items() if path.startswith(scope)]
        if left:
            await asyncio.wait(left)

    def ending(self, path: str) -> AbstractAsyncContextManager[None]:
        """The effect at ``path`` ends: apart from others that are under way beside it."""
        task = root(path)
        return nullcontext() if self._under_way[task] < 2 else self._apart(task)

    @asynccontextmanager
    async def _apart(self, task: str) -> AsyncIterator[None]:
        async with self._ending.setdefault(task, asyncio.Lock()):
            await _settle()
            yield

    async def _wait_for(self, before: str, entry: Entry) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._gift(before).wait()
        except TimeoutError:
            # If the graph takes another way for it, it will ask for another effect and be told.
            log.warning("recalled_out_of_order", path=entry.path, before=before)

    def _gift(self, path: str) -> asyncio.Event:
        return self._given.setdefault(path, asyncio.Event())


async def _settle() -> None:
    for _ in range(SETTLE):
        await asyncio.sleep(0)


def _order(journal: Journal) -> dict[str, str]:
    """For tasks with several effects: before each end the one before it, if there is one.

    What is inside of a sub-agent's finished task is not asked for again.
    """
    ended: dict[str, list[Entry]] = {}
    asked: Counter[str] = Counter()
    for entry in journal.entries():
        task = root(entry.path)
        if is_about_another(entry.path):
            continue
        asked[task] += 1
        if entry.ended and entry.status != "cancelled" and not journal.is_inside_finished(entry):
            ended.setdefault(task, []).append(entry)
    found: dict[str, str] = {}
    for task, siblings in ended.items():
        if not task or asked[task] < 2:
            continue
        paths = [entry.path for entry in sorted(siblings, key=lambda entry: entry.ended or 0)]
        found.update(zip(paths, ["", *paths], strict=False))
    return found
