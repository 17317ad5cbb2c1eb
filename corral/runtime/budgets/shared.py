"""What was spent, as journals tell it: in one run, and in all that share a thread, a user, a day.

Accounts that runs share are kept in the database, so that several processes cannot overrun them
together: a reservation is a row, made in the transaction that has added everything up. One whose
run is not being run any more is dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, delete, distinct, func, insert, select, true

from corral.policies.budgets import Account, Amounts
from corral.policies.ledger import Balance, Breach, Need, granted
from corral.policies.prices import NANO, nano
from corral.runtime.clock import milliseconds_between, now
from corral.runtime.database import Database
from corral.runtime.entries import Entry
from corral.runtime.lease import is_held
from corral.runtime.paths import task
from corral.runtime.tables import effects, reservations, runs, spent_before, threads

CALLS = ("model", "tool", "agent")
"""The kinds of effects that cost something. A task for a sub-agent counts as a tool call."""

AGENT_TOOL = "agents__"
"""What the tools of sub-agents begin with, in front of the agent's name."""


def spent_in(entries: Iterable[Entry]) -> Amounts:
    """What the entries of a journal have used. Calls that were made again count each time."""
    used = Amounts()
    steps = set()
    for entry in entries:
        if entry.kind in CALLS:
            used += _used(entry)
        if entry.kind == "model":
            steps.add(task(entry.path))
    return used + Amounts(steps=len(steps))


def _used(entry: Entry) -> Amounts:
    calls = 1 if entry.kind == "agent" else entry.attempts
    if entry.kind == "agent":
        return Amounts(tool_calls=calls, tools={f"{AGENT_TOOL}{entry.name}": calls})
    seconds = (entry.duration_ms or 0.0) / 1000
    if entry.kind == "tool":
        return Amounts(tool_calls=calls, tools={entry.name: calls}, active_seconds=seconds)
    spend = entry.spend
    return Amounts(
        input_tokens=spend.input_tokens,
        output_tokens=spend.output_tokens,
        nano_usd=nano(spend.cost_usd),
        active_seconds=seconds,
        model_calls=calls,
    )


@dataclass(frozen=True)
class Call:
    """A call that is about to be made, as other runs see it. ``attempt`` counts from 1."""

    path: str
    agent: str
    model: str = ""
    tool: str = ""
    attempt: int = 1


@dataclass(frozen=True)
class Past:
    """When a run began, and which of its calls were cut off: by name, path and what was used."""

    began: str
    lost: dict[str, tuple[str, Amounts]]


class SharedAccounts:
    """The accounts that a run has in common with others. ``reserve`` is one transaction."""

    def __init__(self, database: Database, run: str, thread: str) -> None:
        self._database = database
        self._run = run
        self._thread = thread

    async def reserve(
        self, accounts: Sequence[Account], call: Call, need: Need
    ) -> tuple[int | Breach, list[Balance]]:
        """Reserve what a call needs, or nothing: see ``policies.ledger``. And how all stands."""

        def work(connection: Connection) -> tuple[int | Breach, list[Balance]]:
            _drop_dead(connection)
            balances = [balance(connection, account) for account in accounts]
            tokens = granted(balances, need)
            if not isinstance(tokens, Breach):
                row = self._row(call, need.with_output(tokens), "open")
                connection.execute(insert(reservations), row)
            return tokens, balances

        return await self._database.write(work, durable=False)

    async def settle(self, call: Call) -> None:
        """Take the reservation back: from now on the journal says what the call has used."""
        name = call_name(self._run, call)
        gone = delete(reservations).where(reservations.c.id == name, reservations.c.state == "open")
        await self._database.write(lambda c: c.execute(gone), durable=False)

    async def lose(self, call: Call, used: Amounts) -> None:
        """Record what a call had used that was cut off, and is made again or given up."""
        row = self._row(call, used, "lost")
        row["calls"] = row["steps"] = 0  # the journal counts its attempts

        def work(connection: Connection) -> None:
            connection.execute(delete(reservations).where(reservations.c.id == row["id"]))
            connection.execute(insert(reservations), row)

        await self._database.write(work, durable=False)

    async def open(self) -> Past:
        """Begin: what an earlier execution in this thread had reserved is given back."""
        mine = reservations.c.thread_id == self._thread

        def work(connection: Connection) -> tuple[str, list[Any]]:
            began = connection.execute(select(runs.c.started_at).where(runs.c.id == self._run))
            return began.scalar_one(), list(connection.execute(select(reservations).where(mine)))

        began, rows = await self._database.read(work)
        if any(row.state == "open" for row in rows):
            gone = delete(reservations).where(mine, reservations.c.state == "open")
            await self._database.write(lambda c: c.execute(gone), durable=False)
        lost = (row for row in rows if row.state == "lost" and row.run_id == self._run)
        return Past(began, {row.id: (row.path, _amounts(row)) for row in lost})

    def _row(self, call: Call, amounts: Amounts, state: str) -> dict[str, Any]:
        at = now()
        return {
            "id": call_name(self._run, call),
            "run_id": self._run,
            "thread_id": self._thread,
            "path": call.path,
            "state": state,
            "day": at[:10],
            "agent": call.agent,
            "model": call.model,
            "tool": call.tool,
            "input_tokens": amounts.input_tokens,
            "output_tokens": amounts.output_tokens,
            "cost_usd": amounts.nano_usd / NANO,
            "calls": amounts.model_calls + amounts.tool_calls,
            "steps": amounts.steps,
            "created_at": at,
        }


def call_name(run: str, call: Call) -> str:
    """What a reservation for this call is named by."""
    return f"{run}:{call.path}:{call.attempt}"


def balance(connection: Connection, account: Account) -> Balance:
    """How an account stands that runs share."""
    spent = _from_journals(connection, account) + _from_before(connection, account)
    reserved = Amounts()
    condition = _of_holder(account, reservations.c.thread_id, reservations.c.day)
    for row in connection.execute(select(reservations).where(condition)):
        if row.state == "lost":
            spent += _amounts(row)
        else:
            reserved += _amounts(row, counted=not _is_in_journal(connection, row))
    return Balance(account, spent, reserved)


def _of_holder(
    account: Account, thread: ColumnElement[Any], day: ColumnElement[Any]
) -> ColumnElement[bool]:
    match account.kind:
        case "thread":
            return thread == account.holder
        case "day":
            return day == account.holder
        case _:
            return true()


def _amounts(row: Any, *, counted: bool = False) -> Amounts:
    """What a row of the table of reservations says; its calls only if they are to be counted."""
    calls = row.calls if counted else 0
    return Amounts(
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        nano_usd=nano(row.cost_usd),
        model_calls=calls if row.model else 0,
        tool_calls=calls if row.tool else 0,
        steps=row.steps if counted else 0,
        tools={row.tool: calls} if row.tool else {},
    )


def _is_in_journal(connection: Connection, row: Any) -> bool:
    query = select(effects.c.seq).where(effects.c.run_id == row.run_id, effects.c.path == row.path)
    return connection.execute(query).first() is not None


def _drop_dead(connection: Connection) -> None:
    """Forget the reservations of runs that nobody is running."""
    query = (
        select(reservations.c.thread_id, threads.c.lease)
        .outerjoin(threads, threads.c.id == reservations.c.thread_id)
        .where(reservations.c.state == "open")
        .distinct()
    )
    for row in connection.execute(query).all():
        if not is_held(row.lease):
            mine = reservations.c.thread_id == row.thread_id
            connection.execute(delete(reservations).where(mine, reservations.c.state == "open"))


def _in_account(account: Account) -> ColumnElement[bool]:
    """The effects that an account pays for. What was imported was paid for elsewhere."""
    mine = runs.c.origin.is_(None)
    match account.kind:
        case "thread":
            return mine & (runs.c.thread_id == account.holder)
        case "day":
            # What a run did on a day it can only have done before its end.
            begin, end = account.holder, _next_day(account.holder)
            on_it = (effects.c.started_at >= begin) & (effects.c.started_at < end)
            return mine & on_it & (func.coalesce(runs.c.finished_at, end) >= begin)
        case _:
            return mine


def _next_day(day: str) -> str:
    return (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()


def _from_journals(connection: Connection, account: Account) -> Amounts:
    condition = _in_account(account)
    calls = case((effects.c.kind == "agent", 1), else_=effects.c.attempts)
    columns = (effects.c.input_tokens, effects.c.output_tokens, effects.c.cost_usd)
    sums = [func.coalesce(func.sum(column), 0) for column in (calls, *columns)]
    took = func.coalesce(func.sum(effects.c.duration_ms), 0.0)
    query = (
        select(effects.c.kind, effects.c.name, *sums, took)
        .join(runs, runs.c.id == effects.c.run_id)
        .where(condition, effects.c.kind.in_(CALLS))
        .group_by(effects.c.kind, effects.c.name)
    )
    used = Amounts()
    rows: Iterable[Any] = connection.execute(query)
    for kind, name, count, given, got, cost, took_ms in rows:
        tool = {"tool": name, "agent": f"{AGENT_TOOL}{name}"}.get(kind)
        used += Amounts(
            input_tokens=given,
            output_tokens=got,
            nano_usd=nano(cost),
            active_seconds=took_ms / 1000 if kind != "agent" else 0.0,
            model_calls=count if kind == "model" else 0,
            tool_calls=count if tool else 0,
            tools={tool: count} if tool else {},
        )
    limits = account.budget
    steps = 0 if limits.steps is None else _steps(connection, condition)
    wall = 0.0 if limits.wall_seconds is None else _wall_seconds(connection, account)
    return used + Amounts(steps=steps, wall_seconds=wall)


def _steps(connection: Connection, condition: ColumnElement[bool]) -> int:
    """Turns of agents: the tasks in which a model was asked, as ``paths.task`` tells them apart."""
    place = effects.c.run_id + ":" + func.rtrim(effects.c.path, "0123456789")
    query = select(func.count(distinct(place))).join(runs, runs.c.id == effects.c.run_id)
    return connection.execute(query.where(condition, effects.c.kind == "model")).scalar_one()


def _wall_seconds(connection: Connection, account: Account) -> float:
    """How long the runs took together, each from its beginning to its end or its last effect."""
    last = select(func.max(effects.c.started_at)).where(effects.c.run_id == runs.c.id)
    query = select(runs.c.started_at, runs.c.finished_at, last.scalar_subquery(), threads.c.lease)
    day = func.substr(runs.c.started_at, 1, 10)
    condition = _of_holder(account, runs.c.thread_id, day)
    rows = connection.execute(
        query.join(threads, threads.c.id == runs.c.thread_id).where(
            condition, runs.c.origin.is_(None)
        )
    )
    seconds = 0.0
    for began, finished, seen, lease in rows:
        end = finished or (now() if is_held(lease) else seen or began)
        seconds += milliseconds_between(began, end) / 1000
    return seconds


def _from_before(connection: Connection, account: Account) -> Amounts:
    """What runs had spent that are not there any more."""
    table = spent_before.c
    names = (
        *("input_tokens", "output_tokens", "cost_usd", "model_calls", "tool_calls"),
        *("steps", "active_seconds", "wall_seconds"),
    )
    sums = [func.coalesce(func.sum(table[name]), 0).label(name) for name in names]
    condition = _of_holder(account, table.thread_id, table.day)
    query = select(table.tool, *sums).where(condition).group_by(table.tool)
    used = Amounts()
    for row in connection.execute(query):
        used += Amounts(
            input_tokens=int(row.input_tokens),
            output_tokens=int(row.output_tokens),
            nano_usd=nano(row.cost_usd),
            wall_seconds=row.wall_seconds,
            active_seconds=row.active_seconds,
            model_calls=row.model_calls,
            tool_calls=row.tool_calls,
            steps=row.steps,
            tools={row.tool: row.tool_calls} if row.tool else {},
        )
    return used
