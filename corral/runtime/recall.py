"""What a journal answers, as it was: results, failures, and calls that the graph gave up.

Within one task effects can be under way at the same time, and what a node does next may depend
on which ends first. They are given back in the order in which they ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from corral.errors import DivergenceError
from corral.runtime.effects import Outcome
from corral.runtime.entries import Entry
from corral.runtime.journal import Journal
from corral.runtime.paths import is_place, task

PATIENCE = 30.0
"""Seconds to wait for an effect that ended earlier to be asked for."""


class Recall:
    """Answers from one journal, for one execution of its graph.

    ``parked`` surrounds the wait for an end that never came.
    """

    def __init__(
        self,
        journal: Journal,
        parked: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._parked = parked
        self._races = _races(journal.entries())
        self._given: dict[str, asyncio.Future[None]] = {}

    async def answer(self, entry: Entry) -> Outcome:
        """What the entry's effect gave; raises what it raised.

        One that the graph did not wait for ends only by being cancelled again.
        """
        if entry.status == "cancelled":
            with self._parked():
                await asyncio.get_running_loop().create_future()
        before = self._races.get(entry.path)
        if before is None:
            return entry.outcome()
        try:
            if before:
                await asyncio.wait_for(asyncio.shield(self._gift(before)), PATIENCE)
        except TimeoutError:
            raise DivergenceError(
                f"At {entry.path} the graph did not ask for {before}, which had ended before.",
                hint="The agent's code changed since the run began: start a new run.",
            ) from None
        finally:
            gift = self._gift(entry.path)
            if not gift.done():
                gift.set_result(None)
        return entry.outcome()

    def _gift(self, path: str) -> asyncio.Future[None]:
        if path not in self._given:
            self._given[path] = asyncio.get_running_loop().create_future()
        return self._given[path]


def _races(entries: list[Entry]) -> dict[str, str]:
    """For tasks whose effects did not end in the order of their start: who ended before whom."""
    ended: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.status in ("finished", "failed") and is_place(entry.path) and entry.ended:
            ended.setdefault(task(entry.path), []).append(entry)
    found: dict[str, str] = {}
    for siblings in ended.values():
        in_order = sorted(siblings, key=lambda entry: entry.ended or 0)
        if in_order != siblings:
            before = ["", *(entry.path for entry in in_order)]
            found.update(zip((entry.path for entry in in_order), before, strict=False))
    return found
