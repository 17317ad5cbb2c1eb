"""What was spent, as journals tell it: in one run, and in all that share a thread, a user, a day.

Accounts that runs share are kept in the database, so that several processes cannot overrun them
together: a reservation is a row, made in the transaction that has added everything up. One whose
run is not being run any more is dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    true,
)

from corral.policies.budgets import Account, AccountKind, Amounts
from corral.policies.ledger import Balance, Breach, Need, granted
from corral.policies.prices import NANO, nano
from corral.runtime.budgets.tally import AGENT_TOOL, PAID, Tally, tallied
from corral.runtime.clock import ago, milliseconds_between, now
from corral.runtime.database import Database
from corral.runtime.effects import Spend
from corral.runtime.entries import Entry
from corral.runtime.lease import current_hold, is_held
from corral.runtime.paths import task
from corral.runtime.statements import Query, Statement
from corral.runtime.tables import effects, reservations, runs, spent_before, threads


def spent_in(entries: Iterable[Entry]) -> Amounts:
    """What the entries of a journal have used. Calls that were made again count each time."""
    used = Amounts()
    steps = set()
    for entry in entries:
        if entry.kind in PAID:
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
    if entry.kind == "approval":
        # It lasts as long as somebody thinks; with no spend a human did.
        calls, seconds = int(spend != Spend()), 0.0
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


BESIDE = timedelta(minutes=10)
"""After this a reservation beside a run is dead: who made it was killed."""


class SharedAccounts:
    """The accounts that a run has in common with others. ``reserve`` is one transaction.

    ``beside``: for calls that are made while nobody executes the run.
    """

    def __init__(self, database: Database, run: str, thread: str, *, beside: bool = False) -> None:
        self._database = database
        self._run = run
        self._thread = thread
        self._state = "beside" if beside else "open"
        self._tallies: Mapping[str, Tally] = {}

    async def reserve(
        self, accounts: Sequence[Account], call: Call, need: Need
    ) -> tuple[int | Breach, list[Balance]]:
        """Reserve what a call needs, or nothing: see ``policies.ledger``. And how all stands."""

        def work(connection: Connection) -> tuple[int | Breach, _Stand]:
            _drop_dead(connection)
            stand = _stand(connection, accounts, self._tallies)
            tokens = granted(stand.balances, need)
            if not isinstance(tokens, Breach):
                row = self._row(call, need.with_output(tokens), self._state)
                _RESERVE.run(connection, row)
            return tokens, stand

        if any(account.key not in self._tallies for account in accounts):
            await self.balances(accounts)  # which takes longer, and holds nobody up
        tokens, stand = await self._database.appended(work)
        self._tallies = stand.tallies
        return tokens, stand.balances

    async def balances(self, accounts: Sequence[Account]) -> list[Balance]:
        """How all of these stand."""
        if not accounts:
            return []
        stand = await self._database.read(lambda c: _stand(c, accounts, self._tallies))
        self._tallies = stand.tallies
        return stand.balances

    async def settle(self, call: Call) -> None:
        """Take the reservation back: from now on the journal says what the call has used."""
        name = call_name(self._run, call)
        await self._database.appended(lambda connection: _GIVE_BACK.run(connection, {"name": name}))

    async def lose(self, call: Call, used: Amounts) -> None:
        """Record what a call had used that was cut off, and is made again or given up."""
        row = self._row(call, used, "lost")
        row["calls"] = row["steps"] = 0  # the journal counts its attempts

        def work(connection: Connection) -> None:
            connection.execute(delete(reservations).where(reservations.c.id == row["id"]))
            connection.execute(insert(reservations), row)

        await self._database.write(work, durable=False)

    async def open(self) -> Past:
        """Begin: what an earlier execution in this thread had reserved is given back.

        Only who runs the thread knows that nobody else does.
        """
        thread = {"thread": self._thread}

        def work(connection: Connection) -> tuple[str, list[Any]]:
            began = _BEGAN.one(connection, {"run": self._run}).started_at
            return began, _OF_THREAD.all(connection, thread)

        began, rows = await self._database.glance(work)
        if current_hold.get() is not None and any(row.state == "open" for row in rows):
            await self._database.write(lambda c: _DROP_OPEN.run(c, thread), durable=False)
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


@dataclass(frozen=True)
class _Stand:
    """How accounts stand, and what to know when they are looked at again."""

    balances: list[Balance]
    tallies: Mapping[str, Tally]


def _stand(
    connection: Connection, accounts: Iterable[Account], tallies: Mapping[str, Tally]
) -> _Stand:
    balances, found = [], {}
    for account in accounts:
        spent, found[account.key] = tallied(connection, account, tallies.get(account.key, Tally()))
        balances.append(_balance(connection, account, spent))
    return _Stand(balances, found)


def balance(connection: Connection, account: Account) -> Balance:
    """How an account stands that runs share."""
    return _stand(connection, [account], {}).balances[0]


def _balance(connection: Connection, account: Account, journaled: Amounts) -> Balance:
    spent = journaled + _from_before(connection, account)
    if account.budget.wall_seconds is not None:
        spent += Amounts(wall_seconds=_wall_seconds(connection, account))
    reserved = Amounts()
    for row in map(_Reserved._make, _asked(_RESERVED, connection, account)):
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


class _Reserved(NamedTuple):
    """A reservation: what its row in the database says of the call."""

    run_id: str
    path: str
    state: str
    model: str
    tool: str
    input_tokens: int
    output_tokens: int
    cost_usd: float
    calls: int
    steps: int


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
    here = {"run": row.run_id, "path": row.path}
    return _ENTRY.run(connection, here).fetchone() is not None


def _drop_dead(connection: Connection) -> None:
    """Forget the reservations of runs that nobody is running, and old ones beside runs."""
    _DROP_OLD.run(connection, {"before": ago(BESIDE)})
    for thread, lease in _HOLDERS.run(connection, {}).fetchall():
        if not is_held(lease):
            _DROP_OPEN.run(connection, {"thread": thread})


def _wall_seconds(connection: Connection, account: Account) -> float:
    """How long the runs took together, each from its beginning to its end or its last effect."""
    newest = select(func.max(effects.c.started_at)).where(effects.c.run_id == runs.c.id)
    last = case((runs.c.finished_at.is_(None), newest.scalar_subquery()))
    query = select(runs.c.started_at, runs.c.finished_at, last, threads.c.lease)
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
    used = Amounts()
    for tool, *sums in _asked(_BEFORE, connection, account):
        given, got, cost, model_calls, tool_calls, steps, active, wall = sums
        used += Amounts(
            input_tokens=int(given),
            output_tokens=int(got),
            nano_usd=nano(cost),
            wall_seconds=wall,
            active_seconds=active,
            model_calls=model_calls,
            tool_calls=tool_calls,
            steps=steps,
            tools={tool: tool_calls} if tool else {},
        )
    return used


_Statements = Mapping[AccountKind, Statement]


def _asked(what: _Statements, connection: Connection, account: Account) -> list[Any]:
    cursor = what[account.kind].run(connection, {"holder": account.holder})
    return list(cursor.fetchall())


def _by_kind(
    query: Select[Any], thread: ColumnElement[Any], day: ColumnElement[Any]
) -> _Statements:
    """A query about each kind of account that runs share."""
    holder: ColumnElement[Any] = bindparam("holder")
    return {
        "thread": Statement(query.where(thread == holder)),
        "day": Statement(query.where(day == holder)),
        "user": Statement(query),
    }


_ENTRY = Statement(
    select(effects.c.seq).where(
        effects.c.run_id == bindparam("run"), effects.c.path == bindparam("path")
    )
)
_RESERVED = _by_kind(
    select(*(reservations.c[name] for name in _Reserved._fields)),
    reservations.c.thread_id,
    reservations.c.day,
)
_SUMMED = (
    *("input_tokens", "output_tokens", "cost_usd", "model_calls", "tool_calls"),
    *("steps", "active_seconds", "wall_seconds"),
)
_BEFORE = _by_kind(
    select(
        spent_before.c.tool,
        *(func.coalesce(func.sum(spent_before.c[name]), 0) for name in _SUMMED),
    ).group_by(spent_before.c.tool),
    spent_before.c.thread_id,
    spent_before.c.day,
)
_HOLDERS = Statement(
    select(reservations.c.thread_id, threads.c.lease)
    .outerjoin(threads, threads.c.id == reservations.c.thread_id)
    .where(reservations.c.state == "open")
    .distinct()
)
_BEGAN = Query(select(runs.c.started_at).where(runs.c.id == bindparam("run")))
_OF_THREAD = Query(select(reservations).where(reservations.c.thread_id == bindparam("thread")))
_DROP_OPEN = Statement(
    delete(reservations).where(
        reservations.c.thread_id == bindparam("thread"), reservations.c.state == "open"
    )
)
_DROP_OLD = Statement(
    delete(reservations).where(
        reservations.c.state == "beside", reservations.c.created_at < bindparam("before")
    )
)
_RESERVE = Statement(insert(reservations))
_GIVE_BACK = Statement(
    delete(reservations).where(
        reservations.c.id == bindparam("name"), reservations.c.state != "lost"
    )
)
