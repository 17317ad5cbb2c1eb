"""What a fork would share, and what it would make anew: looked at before anything is done.

Light on purpose, as ``records`` is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sqlalchemy import Connection, select

from corral.errors import ConflictError, NotFoundError, UsageError
from corral.jsontypes import Json
from corral.runtime import lease
from corral.runtime.entries import JournalRow, Parting, shared
from corral.runtime.paths import BESIDE, asked_about, places
from corral.runtime.tables import runs, threads
from corral.runtime.views import EffectView, Record, RunView, Totals

GIVEN = ("model", "tool", "agent")
"""The kinds of effects whose result can be given by hand."""

_NEARBY = 3
_WHAT_BESIDE = {
    "approval": ("a question to a human", "Its answer decides about a call", "asks again"),
    "connection": ("a connection of a tool call", "It belongs to a call", "connects again"),
}


class Point(Protocol):
    """What is needed to know of an effect to part there."""

    @property
    def seq(self) -> int: ...  # noqa: D102  as EffectView
    @property
    def path(self) -> str: ...  # noqa: D102  as EffectView
    @property
    def kind(self) -> str: ...  # noqa: D102  as EffectView
    @property
    def name(self) -> str: ...  # noqa: D102  as EffectView


PointT = TypeVar("PointT", bound=Point)


@dataclass(frozen=True)
class ForkPlan(Record):
    """What a fork at ``at`` would do.

    It shares ``kept``; ``siblings`` of them are parallel to ``at``, in branches of the same step.
    ``again`` is what the run did from there on: the fork makes anew what it then asks for, which
    may be the same. ``repeats`` are the calls among it that may change something in the world.
    ``spent`` and ``steps`` count towards the fork's limits from the start.
    """

    at: EffectView
    kept: tuple[EffectView, ...]
    siblings: tuple[EffectView, ...]
    again: tuple[EffectView, ...]
    repeats: tuple[EffectView, ...]
    spent: Totals
    steps: int


def fork_plan(
    run: RunView, effects: Sequence[EffectView], rows: Sequence[JournalRow], left: Parting
) -> ForkPlan:
    """What a fork of ``run``, with these effects and rows of the journal, would do.

    Raises as ``fork_at``.
    """
    at, changes = left.at, left.changes
    point = fork_at(run.run, effects, at)
    shares = {row.seq for row in shared(rows, left)}
    kept = [effect for effect in effects if effect.seq in shares]
    done = [effect for effect in kept if effect.status == "finished"]
    again = [one for one in effects if one.seq not in shares and one.kind not in BESIDE]
    made = [one for one in again if not (one.seq == at and "result" in changes)]
    # What another machine says of its tools is not to be trusted here.
    harmless = _harmless(effects) if run.origin is None else set()
    return ForkPlan(
        at=point,
        kept=tuple(kept),
        siblings=tuple(one for one in kept if _are_parallel(one.path, point.path)),
        again=tuple(made),
        repeats=tuple(one for one in made if one.kind == "tool" and one.name not in harmless),
        spent=Totals.of(done),
        steps=sum(one.kind == "model" for one in done),
    )


def fork_at(run: str, effects: Sequence[PointT], at: int) -> PointT:
    """The effect number ``at``.

    Raises ``NotFoundError`` that names those nearby, and ``UsageError`` for what belongs to a call:
    a question to a human, or a connection.
    """
    found = next((effect for effect in effects if effect.seq == at), None)
    if found is None:
        raise NotFoundError(f"The run {run} has no effect {at}.", hint=_nearby(run, effects, at))
    if found.kind in BESIDE:
        about = asked_about(found.path)
        call = next((effect for effect in effects if effect.path == about), None)
        where = f"fork at the call itself, effect {call.seq}" if call else "fork before it"
        what, why, then = _WHAT_BESIDE[found.kind]
        raise UsageError(
            f"Effect {at} of the run {run} is {what}.", hint=f"{why}: {where}. A fork {then}."
        )
    return found


def _nearby(run: str, effects: Sequence[Point], at: int) -> str:
    if not effects:
        return f"It has none yet: see `corral trace {run}`."
    near = sorted(effects, key=lambda effect: (abs(effect.seq - at), effect.seq))[: 2 * _NEARBY]
    lines = [f"{one.seq:>4} {one.kind} {one.name}" for one in sorted(near, key=lambda e: e.seq)]
    head = f"It has {len(effects)} effects, see `corral trace {run}`. The nearest:"
    return "\n".join([head, *lines])


def refuse_if_live(connection: Connection, run: str) -> None:
    """Raise ``ConflictError`` when a process is making the run's past right now."""
    query = select(runs.c.status, threads.c.lease).join(threads, threads.c.id == runs.c.thread_id)
    row = connection.execute(query.where(runs.c.id == run)).one()
    if row.status == "running" and lease.is_held(row.lease):
        raise ConflictError(
            f"The run {run} is going on: its past is not settled.",
            hint="Wait until it has ended, or stop it with Ctrl-C where it runs.",
        )


def _are_parallel(path: str, other: str) -> bool:
    """Whether two effects stand in different branches of one superstep of one graph."""
    for mine, its in zip(places(path), places(other), strict=False):
        if mine.step != its.step:
            return False
        if mine.task != its.task:
            return True
        if mine.index != its.index:
            return False
    return False


def _harmless(effects: Iterable[EffectView]) -> set[str]:
    """The tools that a trusted server declares as reading only."""
    found: set[str] = set()
    for effect in effects:
        if effect.kind == "prepare" and isinstance(effect.result, dict):
            found.update(_names(effect.result.get("tools")))
    return found


def _names(specs: Json) -> Iterable[str]:
    for spec in specs if isinstance(specs, list) else ():
        if isinstance(spec, dict) and spec.get("read_only") and spec.get("trusted"):
            yield f"{spec.get('server')}__{spec.get('tool')}"
