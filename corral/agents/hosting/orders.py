"""Orders as rows: who wants what done, and how far that has come. Plain functions of a connection.

An order's row is on the disk before anybody is told its handle. From then on the row says what is
left to do: to begin, to go on, to stop. Whoever looks at it can do that, and the thread's lease
decides who does.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, or_, select, true, update

from corral.agents.hosting.contract import Order
from corral.errors import ConflictError, NotFoundError
from corral.jsontypes import canonical
from corral.runtime.approvals import answers
from corral.runtime.clock import now
from corral.runtime.lease import is_held
from corral.runtime.statements import Query
from corral.runtime.tables import approvals, effects, runs, served_runs, threads, vault

ATTEMPTS = 3
"""How often a run is gone on with after a crash without getting any further."""

MOST_OPEN = 100
"""Runs of one owner that have not ended; more are refused."""

ENDED = ("completed", "failed")

_TITLE = 80

State = Literal["queued", "begun", "interrupted", "cancelled", "refused"]
"""``interrupted``: its host has ended, and the next one goes on with it. ``refused``: it could not
begin, or was given up; the error says why."""

Act = Literal["begin", "resume", "stop"]


@dataclass(frozen=True)
class Served:
    """An order as stored. ``run`` is the id that its run has or will have."""

    run: str
    thread: str
    owner: str
    key: str | None
    account: str
    order: Order
    state: State
    error: str | None
    attempts: int
    created_at: str


@dataclass(frozen=True)
class NewOrder:
    """An order about to be stored, with what it will be known by; its texts are redacted.

    ``account`` is under whose keys it is worked on. ``workspace`` is that of a thread that is not
    there yet.
    """

    run: str
    thread: str
    owner: str
    account: str
    order: Order
    workspace: str


def store(connection: Connection, new: NewOrder) -> tuple[Served, bool]:
    """Store an order; whether it is new. One that was stored under its key before is given back.

    Raises ``ConflictError`` for a key that stands for something else, and for too many open runs.
    """
    if found := by_key(connection, new.owner, new.order.key):
        return _same(found, new.order), False
    if _count_open(connection, new.owner) >= MOST_OPEN:
        raise ConflictError(
            f"{MOST_OPEN} runs of this client have not ended yet.",
            hint="Wait until some have ended, or cancel those that nobody needs.",
        )
    at = now()
    if not connection.execute(select(threads.c.id).where(threads.c.id == new.thread)).first():
        title = (new.order.prompt or new.order.tool or "")[:_TITLE]
        thread = {"id": new.thread, "title": title, "workspace": new.workspace}
        connection.execute(insert(threads).values(**thread, created_at=at, updated_at=at))
    connection.execute(
        insert(served_runs).values(
            run_id=new.run,
            thread_id=new.thread,
            owner=new.owner,
            key=new.order.key,
            account=new.account,
            work=canonical(_work(new.order)),
            state="queued",
            attempts=0,
            progress=0,
            created_at=at,
        )
    )
    return find(connection, new.owner, new.run), True


def by_key(connection: Connection, owner: str, key: str | None) -> Served | None:
    """What an owner has ordered under a key."""
    if key is None:
        return None
    mine = (served_runs.c.owner == owner, served_runs.c.key == key)
    row = connection.execute(select(served_runs).where(*mine)).first()
    return None if row is None else _served(row)


def _same(found: Served, order: Order) -> Served:
    if canonical(_work(found.order)) == canonical(_work(order)):
        return found
    raise ConflictError(
        f"The key {order.key!r} stands for another order already: the run {found.run}.",
        hint="Give every new order a key of its own, or none.",
    )


def _work(order: Order) -> dict[str, Any]:
    return {name: value for name, value in asdict(order).items() if name not in ("thread", "key")}


def _count_open(connection: Connection, owner: str) -> int:
    query = (
        select(func.count())
        .select_from(served_runs.outerjoin(runs, runs.c.id == served_runs.c.run_id))
        .where(
            served_runs.c.owner == owner,
            (runs.c.status.in_(("running", "paused")))
            | (runs.c.id.is_(None) & (served_runs.c.state == "queued")),
        )
    )
    return connection.execute(query).scalar_one()


def find(connection: Connection, owner: str, run: str) -> Served:
    """An owner's order. Raises ``NotFoundError``, for another's exactly as for none."""
    row = _MINE.first(connection, {"run": run, "owner": owner})
    if row is None:
        raise _unknown("run", run)
    return _served(row)


_MINE = Query(
    select(served_runs).where(
        served_runs.c.run_id == bindparam("run"), served_runs.c.owner == bindparam("owner")
    )
)


def find_thread(connection: Connection, owner: str, thread: str) -> None:
    """Raise ``NotFoundError`` unless the owner has had a run in this thread."""
    mine = (served_runs.c.thread_id == thread, served_runs.c.owner == owner)
    if not connection.execute(select(served_runs.c.number).where(*mine).limit(1)).first():
        raise _unknown("thread", thread)


def asked_by(connection: Connection, owner: str, approval: str) -> tuple[Row[Any], Served]:
    """A question of an owner's run, whether answered or not. Raises ``NotFoundError``."""
    row = connection.execute(select(approvals).where(approvals.c.id == approval)).first()
    if row is None:
        raise _unknown("approval", approval)
    try:
        return row, find(connection, owner, row.run_id)
    except NotFoundError:
        raise _unknown("approval", approval) from None


def _unknown(what: str, name: str) -> NotFoundError:
    return NotFoundError(
        f"There is no {what} {name!r}.", hint="List your runs: only those of this client are there."
    )


def newest(connection: Connection, owner: str, limit: int) -> list[Served]:
    """An owner's orders, the newest first."""
    return [_served(row) for row in _NEWEST.all(connection, {"owner": owner, "count": limit})]


_NEWEST = Query(
    select(served_runs)
    .where(served_runs.c.owner == bindparam("owner"))
    .order_by(served_runs.c.number.desc())
    .limit(bindparam("count"))
)


def forget(connection: Connection, run: str) -> None:
    """Take back an order that could not begin, with its thread if that is empty."""
    row = connection.execute(select(served_runs).where(served_runs.c.run_id == run)).first()
    if row is None:
        return
    connection.execute(delete(served_runs).where(served_runs.c.run_id == run))
    for table in (runs, served_runs):
        if connection.execute(
            select(table.c.thread_id).where(table.c.thread_id == row.thread_id).limit(1)
        ).first():
            return
    connection.execute(delete(vault).where(vault.c.thread_id == row.thread_id))
    connection.execute(delete(threads).where(threads.c.id == row.thread_id))


def adopt(connection: Connection, run: str, account: str, workspace: str) -> None:
    """Go on with a run under other keys than those that it was ordered with.

    One of another folder is left alone: nobody can go on with it but there.
    """
    here = select(threads.c.id).where(threads.c.workspace == workspace)
    mine = (served_runs.c.run_id == run, served_runs.c.thread_id.in_(here))
    connection.execute(update(served_runs).where(*mine).values(account=account))


def mark(connection: Connection, run: str, state: State, error: str | None = None) -> None:
    """Store how far an order has come. One that was cancelled stays so."""
    mine = (served_runs.c.run_id == run, served_runs.c.state != "cancelled")
    connection.execute(update(served_runs).where(*mine).values(state=state, error=error))


def note(connection: Connection, run: str, error: str) -> None:
    """Keep why an attempt came to nothing."""
    mine = served_runs.c.run_id == run
    connection.execute(update(served_runs).where(mine).values(error=error))


def interrupt(connection: Connection, run: str) -> None:
    """Mark a run whose host ends: it is nobody's fault, and does not count as an attempt."""
    open_ = runs.c.status.in_(("running", "paused", "stopped"))
    has_begun = select(runs.c.id).where(runs.c.id == served_runs.c.run_id, open_).exists()
    mine = (served_runs.c.run_id == run, served_runs.c.state.in_(("queued", "begun")), has_begun)
    values = {"state": "interrupted", "attempts": 0}
    connection.execute(update(served_runs).where(*mine).values(values))


def attempt(connection: Connection, due: Due) -> int | None:
    """Count one more attempt to begin or to go on, from 1; ``None``: it is not due any more.

    What was done since the attempt before makes this the first one again.
    """
    run = due.served.run
    again, _ = find_due(connection, due.served.account, due.served)
    if not any(one.act == due.act for one in again):
        return None
    mine = served_runs.c.run_id == run
    row = connection.execute(select(served_runs).where(mine)).one()
    done = (effects.c.run_id == run, effects.c.status != "started")
    progress = connection.execute(select(func.count()).where(*done)).scalar_one()
    count: int = 1 if progress > row.progress else row.attempts + 1
    values = {"attempts": count, "progress": progress}
    connection.execute(update(served_runs).where(mine).values(values))
    return count


def give_up(connection: Connection, run: str, error: str) -> None:
    """Let a run fail that could not begin or be gone on with, unless somebody executes it."""
    row = _of_run(connection, run)
    if row is None:
        mark(connection, run, "refused", error)
        return
    if row.status in ENDED or is_held(row.lease):
        return
    reason = "the run could not go on"
    answers.close_questions(connection, approvals.c.run_id == run, reason)
    values = {"status": "failed", "error": error, "finished_at": now()}
    connection.execute(update(runs).where(runs.c.id == run).values(values))
    mine = served_runs.c.run_id == run
    # A person may resume it: then it is like new.
    again = {"state": "begun", "error": None, "attempts": 0}
    connection.execute(update(served_runs).where(mine).values(again))


def cancel(connection: Connection, run: str) -> None:
    """Remember that a run is not to go on, whatever becomes of who executes it now."""
    mine = served_runs.c.run_id == run
    connection.execute(update(served_runs).where(mine).values(state="cancelled"))


def is_stopped(connection: Connection, run: str) -> bool:
    """End a cancelled run that nobody executes; whether nothing of it goes on any more."""
    row = _of_run(connection, run)
    if row is None or row.status not in ("running", "paused"):
        return True
    if is_held(row.lease):
        return False
    answers.cancel(connection, run)
    return True


def _of_run(connection: Connection, run: str) -> Row[Any, Any] | None:
    query = select(runs.c.status, threads.c.lease).join(threads, threads.c.id == runs.c.thread_id)
    return connection.execute(query.where(runs.c.id == run)).first()


@dataclass(frozen=True)
class Due:
    """What is to be done with an order now."""

    served: Served
    act: Act


def find_due(
    connection: Connection, account: str, only: Served | None = None
) -> tuple[list[Due], bool]:
    """What can be done for the orders of an account, and whether any of them have not ended.

    ``only`` asks for one of them.
    """
    state, can_go_on = served_runs.c.state, runs.c.status.in_(("running", "paused"))
    asked = (
        select(func.count())
        .where(approvals.c.run_id == runs.c.id, approvals.c.status == "pending")
        .scalar_subquery()
    )
    query = (
        select(served_runs, runs.c.status, threads.c.lease, asked.label("asked"))
        .select_from(
            served_runs.join(threads, threads.c.id == served_runs.c.thread_id).outerjoin(
                runs, runs.c.id == served_runs.c.run_id
            )
        )
        .where(
            served_runs.c.account == account,
            true() if only is None else served_runs.c.thread_id == only.thread,
            or_(
                (state == "queued") & runs.c.id.is_(None),
                (state == "interrupted") & (runs.c.status == "stopped"),
                (state != "refused") & can_go_on & runs.c.rewound.is_(None),
            ),
        )
        .order_by(served_runs.c.number)
    )
    rows = connection.execute(query).all()
    found = []
    waiting: set[str] = set()
    for row in rows:
        act = _act(connection, row, is_first=row.thread_id not in waiting)
        if row.status is None:
            waiting.add(row.thread_id)
        if act is not None and (only is None or only.run == row.run_id):
            found.append(Due(_served(row), act))
    return found, bool(rows)


def _act(connection: Connection, row: Row[Any], *, is_first: bool) -> Act | None:
    """What to do with one order; ``None``: wait."""
    if row.state == "cancelled":
        return "stop"
    if is_held(row.lease):
        return None
    if row.status is None:
        return "begin" if is_first and _is_free(connection, row.thread_id) else None
    if row.status == "paused":
        return None if row.asked else "resume"
    return "resume"


def _is_free(connection: Connection, thread: str) -> bool:
    unfinished = (runs.c.thread_id == thread, runs.c.status.in_(("running", "paused")))
    query = select(runs.c.id).where(*unfinished, runs.c.rewound.is_(None)).limit(1)
    return connection.execute(query).first() is None


def going_on(connection: Connection, run: str) -> str | None:
    """The account whose host goes on with a run by itself; ``None``: nobody does."""
    states = ("queued", "begun", "interrupted")
    mine = (served_runs.c.run_id == run, served_runs.c.state.in_(states))
    return connection.execute(select(served_runs.c.account).where(*mine)).scalar()


def _served(row: Row[Any]) -> Served:
    order = Order(**json.loads(row.work), thread=row.thread_id, key=row.key)
    return Served(
        run=row.run_id,
        thread=row.thread_id,
        owner=row.owner,
        key=row.key,
        account=row.account,
        order=order,
        state=row.state,
        error=row.error,
        attempts=row.attempts,
        created_at=row.created_at,
    )
