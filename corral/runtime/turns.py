"""The order of a replay: effects end as they had ended, and the clock moves on by itself.

A replay is a simulation of the run. Whenever the graph has done all that it can do, the next
thing happens that had happened next: the recorded end that is due, or a deadline or a pause of
the graph's own, for which nobody waits in real time.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from corral.errors import DivergenceError
from corral.runtime.effects import Outcome
from corral.runtime.entries import Entry
from corral.runtime.journal import Journal
from corral.runtime.offline import OfflineLoop, Then
from corral.runtime.paths import in_words, is_about_another

SLACK = 5.0
"""Seconds by which the graph's clock may run ahead of when something is recorded to have ended."""


class Turns:
    """Whose turn it is in one replay, which runs in ``loop``."""

    def __init__(self, journal: Journal, loop: OfflineLoop) -> None:
        self._journal = journal
        self._loop = loop
        self._order = sorted(
            (e for e in journal.entries() if e.ended and not is_about_another(e.path)),
            key=lambda entry: entry.ended or 0,
            reverse=True,
        )
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._stuck: dict[str, asyncio.Future[None]] = {}
        self._over: set[str] = set()
        self._first = min((_asked_at(entry) for entry in self._order), default=0.0)
        self._began = loop.time()
        loop.when_idle(self._next)

    async def answer(self, entry: Entry) -> Outcome:
        """What the entry's effect gave, when its turn comes; raises what it raised."""
        await self._turn(entry.path, self._waiting)
        return entry.outcome()

    async def never(self, path: str) -> Outcome:
        """Wait as for an effect that the graph gave up.

        Raises ``DivergenceError`` when it is not given up, and all else is done.
        """
        await self._turn(path, self._stuck)
        raise AssertionError("what never ends was given a turn")

    async def _turn(self, path: str, among: dict[str, asyncio.Future[None]]) -> None:
        turn = among[path] = self._loop.create_future()
        try:
            await turn
        finally:
            among.pop(path, None)
            self._over.add(path)

    def _next(self, pause: float | None) -> Then:
        """What happens now; ``pause`` is how long the graph's own next deadline is away."""
        while self._order and self._order[-1].path in self._over:
            self._order.pop()
        due = self._order[-1] if self._order else None
        if due is not None and due.path in self._waiting and not self._journal.was_given_up(due):
            return self._release(due.path)
        if due is None and self._stuck and not self._journal.is_over:
            return self._give_up()
        if pause is not None and (due is None or self._loop.time() + pause <= self._latest(due)):
            return "skip"
        ready = [path for path in self._waiting if not self._is_given_up(path)]
        if ready:
            return self._release(min(ready, key=self._ended))
        if pause is not None:
            return "skip"
        return self._give_up()

    def _give_up(self) -> Then:
        """Nothing can happen any more: whoever waits is told."""
        for path, turn in (*self._stuck.items(), *self._waiting.items()):
            if not turn.done():
                text = f"The graph waits for {path} ({in_words(path)}), which has no end."
                turn.set_exception(DivergenceError(text))
        return "go on" if self._waiting or self._stuck else "wait"

    def _release(self, path: str) -> Then:
        self._waiting.pop(path).set_result(None)
        return "go on"

    def _is_given_up(self, path: str) -> bool:
        entry = self._journal.find(path)
        return entry is not None and self._journal.was_given_up(entry)

    def _ended(self, path: str) -> int:
        entry = self._journal.find(path)
        return (entry.ended if entry else None) or 0

    def _latest(self, entry: Entry) -> float:
        """The time on the loop's clock by which the entry had ended."""
        took = (entry.duration_ms or 0.0) / 1000
        return self._began + _asked_at(entry) - self._first + took + SLACK


def _asked_at(entry: Entry) -> float:
    try:
        return datetime.fromisoformat(entry.started_at).timestamp()
    except ValueError:
        return 0.0
