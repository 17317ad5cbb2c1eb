"""What ``corral trace`` shows of a run: its journal, how it is nested, and where its time went."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from corral.runtime.clock import now
from corral.runtime.critical_path import CriticalPath, critical_path
from corral.runtime.outline import OPEN, Graph, milliseconds, outline
from corral.runtime.views import Approval, EffectView, RunView, Totals
from corral.runtime.watching import Standing, changes, standing

if TYPE_CHECKING:
    from corral.runtime.records import Records


@dataclass(frozen=True)
class Trace:
    """A run and its effects. ``questions`` are those that wait for an answer.

    ``at`` is when this was read; a run that is going on, or waits, lasts until then.
    """

    standing: Standing
    # asyncio writes out the result of its main task when that ends.
    effects: Sequence[EffectView] = field(repr=False)
    questions: Sequence[Approval] = ()
    at: str = ""

    @property
    def run(self) -> RunView:
        """The run."""
        return self.standing.run

    @property
    def until(self) -> str | None:
        """When the run ended, or until when it has lasted; ``None`` when nobody knows."""
        run = self.run
        if run.status == "paused" or self.standing.is_live:
            return self.at
        return run.finished_at

    @cached_property
    def graph(self) -> Graph:
        """The effects as they are nested."""
        return outline(self.effects, milliseconds(self.until))

    @cached_property
    def critical(self) -> CriticalPath:
        """Where the run's time went; for a fork, what it did itself."""
        own = [effect for effect in self.effects if effect.run == self.run.run]
        return critical_path(own, since=self.run.started_at, until=self.until)


async def load(records: Records, run: str) -> Trace:
    """A run as it stands. Raises ``NotFoundError``."""
    found = (await records.run(run)).run
    # The run first: what has ended by then has its entries, which are read after it.
    stands = await _standing(records, found)
    effects = [_sound(effect) for effect in await records.trace(found)]
    questions = await records.approvals(run=found)
    return Trace(stands, effects, questions, now())


async def refresh(records: Records, trace: Trace) -> Trace:
    """The same run now; only what can have changed is read again."""
    run = trace.run.run
    stands = await _standing(records, run)
    last = max((effect.seq for effect in trace.effects), default=0)
    open_ = {
        effect.seq: (effect.status, effect.attempts)
        for effect in trace.effects
        if effect.run == run and effect.status != "finished"
    }
    changed = await records.database.read(lambda connection: changes(connection, run, last, open_))
    effects = _merged(trace.effects, map(_sound, changed))
    questions = await records.approvals(run=run) if _asks(effects) else ()
    return Trace(stands, effects, questions, now())


async def _standing(records: Records, run: str) -> Standing:
    return await records.database.read(lambda connection: standing(connection, run))


def _merged(known: Sequence[EffectView], changed: Iterable[EffectView]) -> list[EffectView]:
    """A fork's own effect takes the place of what it shared at the same path."""
    by_path = {effect.path: effect for effect in known}
    by_path.update({effect.path: effect for effect in changed})
    return sorted(by_path.values(), key=lambda effect: effect.seq)


def _sound(effect: EffectView) -> EffectView:
    """The entry with figures that are figures: a damaged row may hold anything."""
    none: dict[str, Any] = dict.fromkeys(("duration_ms", "first_token_ms", "generation_ms"))
    none |= vars(Totals())
    if all(isinstance(getattr(effect, name) or 0, (int, float)) for name in none):
        return effect
    return replace(effect, **none)


def _asks(effects: Iterable[EffectView]) -> bool:
    return any(e.kind == "approval" and e.status in OPEN for e in effects)
