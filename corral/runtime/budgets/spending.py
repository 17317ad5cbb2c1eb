"""Who spent what: by agent, model, tool, thread, day and tag. Of removed runs the sums are kept.

What a fork shares with its parent counts once, for the parent; what was imported was spent on
another machine and does not count.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from corral.policies.budgets import Account, Amounts, Budgets
from corral.policies.prices import NANO, nano
from corral.runtime.budgets.shared import balance
from corral.runtime.budgets.tally import AGENT_TOOL, PAID, asked_a_model
from corral.runtime.clock import milliseconds_between, now
from corral.runtime.database import Database
from corral.runtime.paths import scope, task
from corral.runtime.tables import approvals, effects, reservations, runs, spent_before
from corral.runtime.views import Record

By = Literal["agent", "model", "tool", "thread", "day", "tag", "run"]


@dataclass(frozen=True)
class Spent(Record):
    """What one agent (or model, tool, thread, day, tag) has spent; of all, if ``key`` is empty."""

    by: str
    key: str
    input_tokens: int
    output_tokens: int
    cost_usd: float
    model_calls: int
    tool_calls: int
    steps: int
    active_seconds: float
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Used(Record):
    """How far a configured budget is used; money in US dollars."""

    account: str
    holder: str
    measure: str
    used: float
    limit: float


@dataclass(frozen=True)
class Filter:
    """What is looked at: since a time (ISO 8601), of one run, of one thread."""

    since: str | None = None
    run: str | None = None
    thread: str | None = None


@dataclass(frozen=True)
class Line:
    """What one call has used, and who pays for it."""

    run: str
    thread: str
    day: str
    agent: str
    model: str
    tool: str
    tags: tuple[str, ...]
    amounts: Amounts


async def spending(database: Database, by: By | None, wanted: Filter) -> list[Spent]:
    """What was spent, the dearest first; without ``by`` one line for all of it."""

    def work(connection: Connection) -> list[Spent]:
        sums: dict[str, Amounts] = {}
        for line in _lines(connection, wanted):
            for key in _keys(line, by):
                sums[key] = sums.get(key, Amounts()) + line.amounts
        lines = [_spent(by or "all", key, amounts) for key, amounts in sums.items()]
        return sorted(lines, key=_dearest_first)

    return await database.read(work)


async def budgets_used(database: Database, budgets: Budgets, thread: str | None) -> list[Used]:
    """How far the budgets of the user, of today, and of a thread if one is named, are used."""
    accounts = [
        Account("user", "", budgets.user, "user"),
        Account("day", now()[:10], budgets.day, "day"),
        *([Account("thread", thread, budgets.thread, "thread")] if thread else ()),
    ]

    def work(connection: Connection) -> list[Used]:
        found = []
        for account in accounts:
            limits = account.budget.limits()
            spent = balance(connection, account).spent if limits else Amounts()
            for measure, limit in limits.items():
                unit = NANO if measure == "usd" else 1
                used = spent.of(measure) / unit
                found.append(Used(account.kind, account.holder, measure, used, limit / unit))
        return found

    return await database.read(work)


def keep_sums(connection: Connection, ids: Collection[str]) -> None:
    """Keep what runs have spent that are about to be removed, so that no cap is reset by that."""
    sums: dict[tuple[str, ...], Amounts] = {}
    for run in ids:
        for line in _of_journals(connection, Filter(run=run)):
            tags = json.dumps(line.tags) if line.tags else ""
            who: tuple[str, ...] = (line.day, line.thread, line.agent, line.model, line.tool, tags)
            sums[who] = sums.get(who, Amounts()) + line.amounts
        for key, seconds in _wall(connection, run):
            sums[key] = sums.get(key, Amounts()) + Amounts(wall_seconds=seconds)
    names = ("day", "thread_id", "agent", "model", "tool", "tag")
    rows = [
        {**dict(zip(names, key, strict=True)), **_columns(amounts)} for key, amounts in sums.items()
    ]
    if rows:
        connection.execute(insert(spent_before), rows)
    connection.execute(delete(reservations).where(reservations.c.run_id.in_(ids)))


def forget_thread(connection: Connection, thread: str) -> None:
    """Of a thread that is gone only sums are kept: not which it was, nor its tags."""
    mine = update(spent_before).where(spent_before.c.thread_id == thread)
    connection.execute(mine.values(thread_id="", tag=""))


def _columns(amounts: Amounts) -> dict[str, Any]:
    return {
        "input_tokens": amounts.input_tokens,
        "output_tokens": amounts.output_tokens,
        "cost_usd": amounts.nano_usd / NANO,
        "cached_tokens": amounts.cached_tokens,
        "reasoning_tokens": amounts.reasoning_tokens,
        "model_calls": amounts.model_calls,
        "tool_calls": amounts.tool_calls,
        "steps": amounts.steps,
        "active_seconds": amounts.active_seconds,
        "wall_seconds": amounts.wall_seconds,
    }


def _wall(connection: Connection, run: str) -> Iterator[tuple[tuple[str, ...], float]]:
    columns = (runs.c.started_at, runs.c.finished_at, runs.c.thread_id, runs.c.agent)
    query = select(*columns).where(runs.c.id == run, runs.c.origin.is_(None))
    for began, finished, thread, agent in connection.execute(query):
        seconds = milliseconds_between(began, finished or began) / 1000
        yield (began[:10], thread, agent, "", "", ""), seconds


def _keys(line: Line, by: By | None) -> Sequence[str]:
    if by is None:
        return ("",)
    if by == "tag":
        return line.tags or ("(none)",)
    key = str(getattr(line, by))
    # What has no model is a tool's, and the other way round.
    return (key,) if key or by not in ("model", "tool") else ()


def _spent(by: str, key: str, amounts: Amounts) -> Spent:
    return Spent(
        by=by,
        key=key,
        input_tokens=amounts.input_tokens,
        output_tokens=amounts.output_tokens,
        cost_usd=amounts.nano_usd / NANO,
        model_calls=amounts.model_calls,
        tool_calls=amounts.tool_calls,
        steps=amounts.steps,
        active_seconds=round(amounts.active_seconds, 3),
        cached_tokens=amounts.cached_tokens,
        reasoning_tokens=amounts.reasoning_tokens,
    )


def _dearest_first(line: Spent) -> tuple[float, int, int, str]:
    return (-line.cost_usd, -line.input_tokens - line.output_tokens, -line.tool_calls, line.key)


def _lines(connection: Connection, wanted: Filter) -> Iterator[Line]:
    yield from _of_journals(connection, wanted)
    if wanted.run is None:
        yield from _lines_before(connection, wanted)


def lines_besides(connection: Connection, wanted: Filter) -> Iterator[Line]:
    """What was used besides what the journals' model and tool calls say.

    That is what models were asked about questions, what was lost with calls that were cut off, and
    what was kept of runs that were removed.
    """
    yield from _of_journals(connection, wanted, ("approval",))
    if wanted.run is None:
        yield from _lines_before(connection, wanted)


def _of_journals(
    connection: Connection, wanted: Filter, kinds: Collection[str] = PAID
) -> Iterator[Line]:
    """What the journals say, and what was lost with calls that were cut off."""
    agents = agents_of(connection, wanted)
    approvers = _approvers(connection, wanted)
    columns = (effects.c.run_id, effects.c.path, effects.c.kind, effects.c.name)
    figures = (effects.c.attempts, effects.c.input_tokens, effects.c.output_tokens)
    query = (
        select(
            *columns,
            *figures,
            *(effects.c.cost_usd, effects.c.duration_ms, effects.c.started_at),
            *(effects.c.cached_tokens, effects.c.reasoning_tokens, effects.c.answered_by),
            *(runs.c.thread_id, runs.c.agent, runs.c.tags),
        )
        .join(runs, runs.c.id == effects.c.run_id)
        .where(
            chosen(wanted, effects.c.started_at),
            effects.c.kind.in_(kinds),
            (effects.c.kind != "approval") | (asked_a_model == 1),
        )
    )
    steps: set[tuple[str, str]] = set()
    for row in connection.execute(query):
        asked = len(steps)
        if row.kind == "model":
            steps.add((row.run_id, task(row.path)))
        line = _line(row, agent_path(row, agents), len(steps) - asked)
        if row.kind == "approval":
            line = replace(line, model=approvers[row.run_id, row.path])
        yield line
    yield from _lost(connection, wanted)


def _line(row: Any, agent: str, steps: int) -> Line:
    tool = {"tool": row.name, "agent": f"{AGENT_TOOL}{row.name}"}.get(row.kind, "")
    is_made = row.kind in ("model", "tool")
    calls = row.attempts if is_made else 1
    amounts = Amounts(
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        nano_usd=nano(row.cost_usd),
        active_seconds=(row.duration_ms or 0.0) / 1000 if is_made else 0.0,
        model_calls=0 if tool else calls,
        tool_calls=calls if tool else 0,
        steps=steps,
        cached_tokens=row.cached_tokens,
        reasoning_tokens=row.reasoning_tokens,
    )
    return Line(
        run=row.run_id,
        thread=row.thread_id,
        day=row.started_at[:10],
        agent=agent,
        model="" if tool else row.answered_by or row.name,
        tool=tool,
        tags=_tags(row.tags),
        amounts=amounts,
    )


def _lost(connection: Connection, wanted: Filter) -> Iterator[Line]:
    table = reservations.c
    query = (
        select(reservations, runs.c.tags)
        .join(runs, runs.c.id == table.run_id)
        .where(chosen(wanted, table.created_at), table.state == "lost")
    )
    for row in connection.execute(query):
        amounts = Amounts(row.input_tokens, row.output_tokens, nano(row.cost_usd))
        who = (row.run_id, row.thread_id, row.day, row.agent, row.model, row.tool)
        yield Line(*who, _tags(row.tags), amounts)


def _tags(stored: str | None) -> tuple[str, ...]:
    return tuple(json.loads(stored)) if stored else ()


def chosen(wanted: Filter, at: ColumnElement[Any]) -> ColumnElement[bool]:
    """The rows of this machine's own runs that are looked at; ``at`` is when they began."""
    conditions: list[ColumnElement[bool]] = [runs.c.origin.is_(None)]
    if wanted.since is not None:
        conditions.append(at >= wanted.since)
    if wanted.run is not None:
        conditions.append(runs.c.id == wanted.run)
    if wanted.thread is not None:
        conditions.append(runs.c.thread_id == wanted.thread)
    return and_(*conditions)


def agents_of(connection: Connection, wanted: Filter) -> dict[tuple[str, str], str]:
    """The sub-agents by run and by the place of their tasks."""
    anywhen = replace(wanted, since=None)
    query = (
        select(effects.c.run_id, effects.c.path, effects.c.name)
        .join(runs, runs.c.id == effects.c.run_id)
        .where(chosen(anywhen, effects.c.started_at), effects.c.kind == "agent")
    )
    return {(row.run_id, row.path): row.name for row in connection.execute(query)}


def _approvers(connection: Connection, wanted: Filter) -> dict[tuple[str, str], str]:
    """The models that were asked to answer a question, by its run and its place."""
    here = (effects.c.run_id == approvals.c.run_id) & (effects.c.path == approvals.c.path)
    query = (
        select(approvals.c.run_id, approvals.c.path, approvals.c.answered_by, approvals.c.context)
        .join(effects, here)
        .join(runs, runs.c.id == approvals.c.run_id)
        .where(chosen(wanted, effects.c.started_at), asked_a_model == 1)
    )
    found = {}
    for row in connection.execute(query):
        advice = json.loads(row.context or "{}").get("advice") or [{"by": row.answered_by}]
        found[row.run_id, row.path] = str(advice[0]["by"]).removeprefix("model:")
    return found


def agent_path(row: Any, agents: dict[tuple[str, str], str]) -> str:
    """The agents around an effect, from the run's own to the one that asked for it."""
    names = []
    around = scope(row.path)
    while around:
        name = agents.get((row.run_id, around[:-1]))
        if name is not None:
            names.append(name)
        around = scope(around[:-1])
    return "/".join([row.agent, *reversed(names)])


def _lines_before(connection: Connection, wanted: Filter) -> Iterator[Line]:
    """What was kept of runs that were removed."""
    query = select(spent_before)
    if wanted.since is not None:
        query = query.where(spent_before.c.day >= wanted.since[:10])
    if wanted.thread is not None:
        query = query.where(spent_before.c.thread_id == wanted.thread)
    for row in connection.execute(query):
        amounts = Amounts(
            input_tokens=int(row.input_tokens),
            output_tokens=int(row.output_tokens),
            nano_usd=nano(row.cost_usd),
            active_seconds=row.active_seconds,
            model_calls=row.model_calls,
            tool_calls=row.tool_calls,
            steps=row.steps,
            cached_tokens=int(row.cached_tokens),
            reasoning_tokens=int(row.reasoning_tokens),
        )
        thread = row.thread_id or "(deleted)"
        who = ("(removed)", thread, row.day, row.agent, row.model, row.tool)
        yield Line(*who, _tags(row.tag), amounts)
