"""The rows of a rewind: what it takes back and brings forward, each in one transaction.

Nothing is deleted. What a rewind takes back is marked with the rewind's id and can be seen,
replayed and forked as before; undoing it takes the marks away.
"""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, insert, select, update

from corral.errors import ConflictError, StorageError, UsageError
from corral.memory import changes
from corral.memory.changes import Shift
from corral.runtime import lease as leases
from corral.runtime.clock import now
from corral.runtime.runs import refuse_if_rewinding
from corral.runtime.snapshots.store import Snapshot, of_run
from corral.runtime.tables import approvals, checkpoints, rewinds, runs, snapshots, threads

Direction = Literal["applying", "undoing"]
"""Which way the files are being taken."""

_ENDED = {"applying": "done", "undoing": "undone"}


@dataclass(frozen=True)
class Point:
    """A run of a thread that stands; ``number`` counts them from 1."""

    number: int
    run: str
    prompt: str
    status: str
    started_at: str
    base: str | None


@dataclass(frozen=True)
class Rewound:
    """A rewind as stored."""

    id: str
    thread: str
    to_run: str | None
    status: str
    before: str | None
    target: str | None


@dataclass(frozen=True)
class Way:
    """What a rewind takes back: the runs after ``to``, and where the files come from.

    ``files`` is the snapshot that they go back to. ``gaps`` are runs before it that changed files
    of which nothing was kept, and why. ``others`` are runs of other threads that changed files of
    the same folder since.
    """

    to: Point | None
    back: tuple[Point, ...]
    files: Snapshot | None
    gaps: tuple[Snapshot, ...]
    others: tuple[str, ...]


def points(connection: Connection, thread: str) -> list[Point]:
    """The runs of a thread that stand, oldest first."""
    query = (
        select(runs)
        .where(runs.c.thread_id == thread, runs.c.rewound.is_(None))
        .order_by(runs.c.started_at, runs.c.id)
    )
    rows = connection.execute(query)
    return [_point(number, row) for number, row in enumerate(rows, start=1)]


def _point(number: int, row: Row[Any]) -> Point:
    return Point(number, row.id, row.input, row.status, row.started_at, row.base_checkpoint)


def find_way(connection: Connection, thread: str, to: str) -> Way:
    """What a rewind to ``to`` is: a number of runs that stay, or a run that is the last to stay.

    Raises ``UsageError`` when there is no such run, or nothing comes after it.
    """
    standing = points(connection, thread)
    number = _number(standing, thread, to)
    back = tuple(standing[number:])
    if not back:
        raise UsageError(
            f"The thread {thread} stands after run {number} already: nothing comes after it.",
            hint=f"`corral rewind {thread}` lists its runs.",
        )
    kept = [found for run in back if (found := of_run(connection, run.run)) is not None]
    first = next((found for found in kept if found.root is not None), None)
    gaps = kept if first is None else kept[: kept.index(first)]
    others = _others(connection, thread, first) if first else ()
    to_run = standing[number - 1] if number else None
    return Way(to_run, back, first, tuple(gaps), others)


def _number(standing: list[Point], thread: str, to: str) -> int:
    if to.isdecimal():
        if int(to) <= len(standing):
            return int(to)
    else:
        found = [point.number for point in standing if point.run.startswith(to)]
        if len(found) == 1:
            return found[0]
    raise UsageError(
        f"The thread {thread} has no run {to!r}: it has {len(standing)} that stand.",
        hint=f"`corral rewind {thread}` lists them; 0 is the beginning.",
    )


def _others(connection: Connection, thread: str, since: Snapshot) -> tuple[str, ...]:
    query = (
        select(snapshots.c.run_id)
        .where(
            snapshots.c.workspace == since.workspace,
            snapshots.c.thread_id != thread,
            snapshots.c.created_at >= since.created_at,
            snapshots.c.run_id.is_not(None),
        )
        .order_by(snapshots.c.created_at)
    )
    return tuple(connection.execute(query).scalars())


def take_lease(connection: Connection, thread: str, lease: str) -> str:
    """Take the thread's lease and return its workspace.

    Raises ``ConflictError`` when this thread, or another one in its workspace, is being run.
    """
    leases.take(connection, thread, lease)
    workspace = connection.execute(select(threads.c.workspace).where(threads.c.id == thread))
    folder = str(workspace.scalar_one())
    query = select(threads.c.id, threads.c.lease).where(
        threads.c.workspace == folder, threads.c.id != thread, threads.c.lease.is_not(None)
    )
    for other in connection.execute(query):
        if leases.is_held(other.lease):
            raise ConflictError(
                f"The thread {other.id} is being run in the same folder, {folder}.",
                hint="Wait until it is done, or stop it.",
            )
    return folder


def unfinished(connection: Connection, thread: str) -> Rewound | None:
    """The rewind of this thread that was cut off before all files were in place."""
    query = select(rewinds).where(
        rewinds.c.thread_id == thread, rewinds.c.status.in_(("applying", "undoing"))
    )
    return _rewound(connection.execute(query).first())


def newest_done(connection: Connection, thread: str) -> Rewound:
    """The rewind that undoing takes back.

    Raises ``ConflictError`` when there is none, or the thread has gone on since.
    """
    query = (
        select(rewinds)
        .where(rewinds.c.thread_id == thread, rewinds.c.status == "done")
        .order_by(rewinds.c.created_at.desc(), rewinds.c.id)
        .limit(1)
    )
    row = connection.execute(query).first()
    if row is None:
        raise ConflictError(
            f"The thread {thread} has no rewind that could be undone.",
            hint=f"`corral rewind {thread}` lists its runs.",
        )
    since = [point.run for point in points(connection, thread) if point.started_at > row.created_at]
    if since:
        raise ConflictError(
            f"The thread {thread} has gone on with the run {since[0]} since it was rewound.",
            hint="What was taken back can still be seen with `corral trace RUN`, and "
            "`corral fork RUN` goes on from it in a thread of its own.",
        )
    found = _rewound(row)
    assert found is not None
    return found


def begin(
    connection: Connection, thread: str, way: Way, before: str | None
) -> tuple[Rewound, list[Shift]]:
    """Take back the runs, the conversation and the memories, and store what is left to do."""
    refuse_if_rewinding(connection, thread)
    rewind = f"w-{secrets.token_hex(5)}"
    taken = [point.run for point in way.back]
    connection.execute(update(runs).where(runs.c.id.in_(taken)).values(rewound=rewind))
    connection.execute(
        update(approvals)
        .where(approvals.c.run_id.in_(taken), approvals.c.status == "pending")
        .values(status="withdrawn")
    )
    _stand_at(connection, thread, way.back[0].base, rewind)
    row = {
        "id": rewind,
        "thread_id": thread,
        "to_run": way.to.run if way.to else None,
        "status": "applying",
        "before": before,
        "target": way.files.id if before and way.files else None,
        "created_at": now(),
    }
    connection.execute(insert(rewinds), row)
    shifts = changes.take_back(connection, taken, rewind)
    return Rewound(rewind, thread, row["to_run"], "applying", before, row["target"]), shifts


def _stand_at(connection: Connection, thread: str, base: str | None, rewind: str) -> None:
    """Let the thread stand at a checkpoint again: at a copy of it.

    What was said next is stored as writes on top of the checkpoint itself. A copy has none, so the
    two ways on are never mixed, and undoing has only the copy to take away.
    """
    table = checkpoints
    connection.execute(
        update(table)
        .where(table.c.thread_id == thread, table.c.rewound.is_(None))
        .values(rewound=rewind)
    )
    if base is None:
        return
    row = connection.execute(
        select(table).where(table.c.thread_id == thread, table.c.ns == "", table.c.id == base)
    ).first()
    if row is None:
        raise StorageError(
            f"The conversation of the thread {thread} at that point is not stored any more.",
            hint="It was taken by `corral gc`, or the database is damaged; a later point may do.",
        )
    connection.execute(insert(table), {**row._mapping, "id": _checkpoint_id(), "rewound": None})


def _checkpoint_id() -> str:
    """A UUID 6 (RFC 9562) of now, as LangGraph makes them: they sort by their time."""
    since_1582 = time.time_ns() // 100 + 0x01B21DD213814000
    high, middle, low = since_1582 >> 28, since_1582 >> 12 & 0xFFFF, since_1582 & 0xFFF
    clock = 0x8000 | random.getrandbits(14)
    node = random.getrandbits(48)
    return f"{high:08x}-{middle:04x}-6{low:03x}-{clock:04x}-{node:012x}"


def bring_back(connection: Connection, rewound: Rewound) -> list[Shift]:
    """Bring forward again what a rewind has taken back; the files are left to do."""
    thread, rewind = rewound.thread, rewound.id
    back = select(runs.c.id).where(runs.c.rewound == rewind)
    connection.execute(
        update(approvals)
        .where(approvals.c.run_id.in_(back), approvals.c.status == "withdrawn")
        .values(status="pending")
    )
    connection.execute(update(runs).where(runs.c.rewound == rewind).values(rewound=None))
    table = checkpoints
    connection.execute(delete(table).where(table.c.thread_id == thread, table.c.rewound.is_(None)))
    connection.execute(update(table).where(table.c.rewound == rewind).values(rewound=None))
    connection.execute(
        update(rewinds).where(rewinds.c.id == rewind).values(status="undoing", finished_at=None)
    )
    return changes.bring_forward(connection, rewind)


def finish(connection: Connection, rewound: Rewound) -> None:
    """Store that the files are in place."""
    connection.execute(
        update(rewinds)
        .where(rewinds.c.id == rewound.id)
        .values(status=_ENDED[rewound.status], finished_at=now())
    )


def to_be_undone(connection: Connection, thread: str) -> Rewound:
    """The rewind that was cut off, or else the newest one. Raises as ``newest_done``."""
    return unfinished(connection, thread) or newest_done(connection, thread)


def span(connection: Connection, rewound: Rewound) -> tuple[Point, ...]:
    """The runs that a rewind is about: those after the point that it leads to."""
    standing = points(connection, rewound.thread)
    if rewound.status != "undoing":
        query = select(runs).where(runs.c.rewound == rewound.id)
        rows = connection.execute(query.order_by(runs.c.started_at, runs.c.id)).all()
        return tuple(_point(number, row) for number, row in enumerate(rows, len(standing) + 1))
    last = next((point.number for point in standing if point.run == rewound.to_run), 0)
    return tuple(standing[last:])


def _rewound(row: Row[Any] | None) -> Rewound | None:
    if row is None:
        return None
    return Rewound(row.id, row.thread_id, row.to_run, row.status, row.before, row.target)
