"""What the journals say was spent in an account, without adding all of it up at every call.

A run that has ended changes no more: it is added up once, and all are added up again only when one
was removed or resumed. Of a run that goes on, what is finished is added up once as well, and the
rest of it is looked at each time. So a call costs no more for what was spent long ago. Runs that
wait for a human are added up each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    case,
    distinct,
    func,
    or_,
    select,
)

from corral.policies.budgets import Account, AccountKind, Amounts
from corral.policies.prices import nano
from corral.runtime.clock import ago
from corral.runtime.lease import SILENCE
from corral.runtime.paths import task
from corral.runtime.statements import Statement
from corral.runtime.tables import effects, runs

CALLS = ("model", "tool", "agent")
"""The kinds of effects that cost something. A task for a sub-agent counts as a tool call."""

PAID = (*CALLS, "approval")
"""The same, and questions: a model may have been asked to answer them."""

AGENT_TOOL = "agents__"
"""What the tools of sub-agents begin with, in front of the agent's name."""

asked_a_model = case((effects.c.input_tokens + effects.c.output_tokens > 0, 1), else_=0)
"""Of a question: how many models were asked to answer it."""

_FOREVER = "9999-12-31"
"""Later than any time, as text; of digits, because databases order other characters differently."""

_LATELY = timedelta(seconds=SILENCE)
"""Runs that ended since are added up each time: other clocks may be behind by so much."""

_IS_PAID = or_(*(effects.c.kind == kind for kind in PAID))
_BEFORE_UNTIL = runs.c.finished_at < bindparam("until")
_ENDED = frozenset({"completed", "failed", "stopped"})
_HAS_ENDED = or_(*(runs.c.status == status for status in sorted(_ENDED)))


@dataclass(frozen=True)
class _Journal:
    """What is known of a run that goes on: up to ``seq`` all is in ``used`` that is not ``open``.

    ``tasks`` are those in which a model was asked.
    """

    seq: int = 0
    open: frozenset[int] = frozenset()
    used: Amounts = field(default_factory=Amounts)
    tasks: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Tally:
    """What was known of an account when it was last looked at.

    ``ended`` is what the ``count`` runs have used that had ended before ``until``.
    """

    ended: Amounts = field(default_factory=Amounts)
    count: int = 0
    until: str = ""
    running: Mapping[str, _Journal] = field(default_factory=dict)


def tallied(connection: Connection, account: Account, known: Tally) -> tuple[Amounts, Tally]:
    """What was spent in an account according to the journals, and what to know the next time.

    ``known`` must not come from a transaction that was undone.
    """
    asked, until = _Asked(connection, account), ago(_LATELY)
    runs_now = asked.counts(known.until, until)
    count = runs_now.count
    base = known if runs_now.known == known.count else Tally()  # some were removed, or go on
    ended = base.ended
    if count != base.count:
        ended += asked.total("ended", base.until, until)
    spent = ended
    if runs_now.lately:
        spent += asked.total("ended", until, _FOREVER)
    if runs_now.paused:
        spent += asked.total("paused")
    running = {}
    for (run,) in asked.rows("running"):
        running[run], rest = asked.journal(run, known.running.get(run, _Journal()))
        spent += running[run].used + rest + Amounts(steps=len(running[run].tasks))
    return spent, Tally(ended, count, until, running)


@dataclass(frozen=True)
class _Counts:
    """The runs of an account: those that had ended by two times, and those that ended lately."""

    known: int
    count: int
    lately: int
    paused: bool


@dataclass(frozen=True)
class _Asked:
    """The questions about one account."""

    connection: Connection
    account: Account

    @property
    def _days(self) -> tuple[str, str]:
        """The times between which an effect must have begun."""
        holder = self.account.holder
        return (holder, _next_day(holder)) if self.account.kind == "day" else ("", _FOREVER)

    def rows(self, name: str, **values: object) -> list[Any]:
        """What a statement of this kind of account gives."""
        begin, end = self._days
        given = {"holder": self.account.holder, "begin": begin, "end": end, **values}
        cursor = _statements(self.account.kind)[name].run(self.connection, given)
        return list(cursor.fetchall())

    def counts(self, since: str, until: str) -> _Counts:
        """How many runs there are, by when they ended."""
        found = {row[0]: row[1:] for row in self.rows("counts", since=since, until=until)}
        total, known, count = (sum(found[one][at] for one in _ENDED & {*found}) for at in range(3))
        return _Counts(known, count, total - count, paused="paused" in found)

    def total(self, which: str, since: str = "", until: str = "") -> Amounts:
        """What runs have used that have ended in a time, or are paused."""
        used = Amounts()
        for kind, tool, calls, given, got, cost, took in self.rows(which, since=since, until=until):
            used += _amounts(kind, tool, calls, (given, got, cost), took)
        if self.account.budget.steps is None:
            return used
        return used + Amounts(steps=self.rows(f"{which} steps", since=since, until=until)[0][0])

    def journal(self, run: str, known: _Journal) -> tuple[_Journal, Amounts]:
        """What a run has used that goes on, and besides that what it may not have done using."""
        rows = list(_NEW.run(self.connection, {"run": run, "after": known.seq}).fetchall())
        for seq in sorted(known.open):
            rows += _AT.run(self.connection, {"run": run, "seq": seq}).fetchall()
        used, rest = known.used, Amounts()
        tasks, unfinished = set(known.tasks), set()
        begin, end = self._days
        for seq, status, path, kind, name, attempts, given, got, cost, took, at in rows:
            if status != "finished":
                unfinished.add(seq)
            if kind not in PAID or not begin <= at < end:
                continue
            if kind == "model":
                tasks.add(task(path))
            calls = (
                attempts if kind in ("model", "tool") else int(kind == "agent" or given + got > 0)
            )
            amounts = _amounts(kind, name, calls, (given, got, cost), took or 0.0)
            if status == "finished":
                used += amounts
            else:
                rest += amounts
        seq = max((row[0] for row in rows), default=known.seq)
        newest = max(seq, known.seq)
        return _Journal(newest, frozenset(unfinished), used, frozenset(tasks)), rest


def _amounts(
    kind: str, name: str, calls: int, tokens: tuple[int, int, float], took_ms: float
) -> Amounts:
    """What effects of one kind and name have used; ``tokens`` in, out, and what they cost."""
    tool = {"tool": name, "agent": f"{AGENT_TOOL}{name}"}.get(kind)
    return Amounts(
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        nano_usd=nano(tokens[2]),
        active_seconds=took_ms / 1000 if kind in ("model", "tool") else 0.0,
        model_calls=0 if tool else calls,
        tool_calls=calls if tool else 0,
        tools={tool: calls} if tool else {},
    )


def _next_day(day: str) -> str:
    return (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()


def _runs_of(kind: AccountKind) -> ColumnElement[bool]:
    """The runs that an account of a kind pays for. What was imported was paid for elsewhere."""
    mine = runs.c.origin.is_(None)
    match kind:
        case "thread":
            return mine & (runs.c.thread_id == bindparam("holder"))
        case "day":
            # What a run did on a day it can only have done before its end.
            return mine & or_(~_HAS_ENDED, runs.c.finished_at >= bindparam("begin"))
        case _:
            return mine


def _effects_of(kind: AccountKind) -> ColumnElement[bool]:
    """Their effects that it pays for."""
    if kind != "day":
        return _runs_of(kind)
    at = effects.c.started_at
    return _runs_of(kind) & (at >= bindparam("begin")) & (at < bindparam("end"))


_STATUSES = {
    "ended": _HAS_ENDED & _BEFORE_UNTIL & (runs.c.finished_at >= bindparam("since")),
    "paused": runs.c.status == "paused",
}


@cache
def _statements(kind: AccountKind) -> Mapping[str, Statement]:
    """What is asked about every account of a kind."""
    times: tuple[ColumnElement[Any], ...] = (
        runs.c.status,
        func.count(),
        _count(runs.c.finished_at < bindparam("since")),
        _count(_BEFORE_UNTIL),
    )
    running = select(runs.c.id).where(runs.c.status == "running", _runs_of(kind))
    return {
        "counts": Statement(select(*times).where(_runs_of(kind)).group_by(runs.c.status)),
        "running": Statement(running),
        **{name: Statement(_sums(which & _effects_of(kind))) for name, which in _STATUSES.items()},
        **{
            f"{name} steps": Statement(_steps(which & _effects_of(kind)))
            for name, which in _STATUSES.items()
        },
    }


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _sums(condition: ColumnElement[bool]) -> Select[Any]:
    """What effects have used, by kind and name."""
    calls = case(
        (effects.c.kind == "agent", 1),
        (effects.c.kind == "approval", asked_a_model),
        else_=effects.c.attempts,
    )
    columns = (effects.c.input_tokens, effects.c.output_tokens, effects.c.cost_usd)
    sums = [func.coalesce(func.sum(column), 0) for column in (calls, *columns)]
    took = func.coalesce(func.sum(effects.c.duration_ms), 0.0)
    return (
        select(effects.c.kind, effects.c.name, *sums, took)
        .join(runs, runs.c.id == effects.c.run_id)
        .where(condition, _IS_PAID)
        .group_by(effects.c.kind, effects.c.name)
    )


def _steps(condition: ColumnElement[bool]) -> Select[Any]:
    """Turns of agents: the tasks in which a model was asked, as ``paths.task`` tells them apart."""
    place = effects.c.run_id + ":" + func.rtrim(effects.c.path, "0123456789")
    query = select(func.count(distinct(place))).join(runs, runs.c.id == effects.c.run_id)
    return query.where(condition, effects.c.kind == "model")


_ENTRY: tuple[ColumnElement[Any], ...] = (
    effects.c.seq,
    effects.c.status,
    effects.c.path,
    effects.c.kind,
    effects.c.name,
    effects.c.attempts,
    effects.c.input_tokens,
    effects.c.output_tokens,
    effects.c.cost_usd,
    effects.c.duration_ms,
    effects.c.started_at,
)
_OF_A_RUN = select(*_ENTRY).where(effects.c.run_id == bindparam("run"))
_NEW = Statement(_OF_A_RUN.where(effects.c.seq > bindparam("after")))
_AT = Statement(_OF_A_RUN.where(effects.c.seq == bindparam("seq")))
