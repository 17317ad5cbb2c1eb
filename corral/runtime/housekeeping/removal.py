"""What it takes to remove runs and threads from the tables: plain functions of a connection.

Contents are not touched here: what nothing refers to any more is found by ``sweep``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, exists, func, or_, select

from corral.runtime.budgets.spending import forget_thread, keep_sums
from corral.runtime.clock import ago
from corral.runtime.lease import is_held
from corral.runtime.tables import (
    approvals,
    checkpoint_writes,
    checkpoints,
    effects,
    kept_answers,
    rewinds,
    runs,
    served_runs,
    snapshot_folders,
    snapshots,
    standing_rules,
    threads,
    vault,
)

UNFINISHED = ("running", "paused")
"""The statuses of a run that can still go on by itself or by an answer."""

SETTLED_AFTER = 3600.0
"""Seconds after which a checkpoint without a thread is nobody's: its run was not stored."""

_AT_ONCE = 500


def chunks(values: Iterable[str]) -> Iterator[list[str]]:
    """The values in lists that a statement can take as parameters."""
    rest = iter(values)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def remove_runs(connection: Connection, ids: Collection[str]) -> None:
    """Delete runs with their journals, their questions, and what was kept of them."""
    for some in chunks(ids):
        keep_sums(connection, some)
        connection.execute(delete(approvals).where(approvals.c.run_id.in_(some)))
        _remove_rules(connection, "run", some)
        connection.execute(delete(kept_answers).where(kept_answers.c.run_id.in_(some)))
        connection.execute(delete(effects).where(effects.c.run_id.in_(some)))
        _remove_snapshots(connection, snapshots.c.run_id.in_(some) & ~_by_a_rewind())
        connection.execute(delete(served_runs).where(served_runs.c.run_id.in_(some)))
        connection.execute(delete(runs).where(runs.c.id.in_(some)))


def _remove_rules(connection: Connection, scope: str, ids: Collection[str]) -> None:
    """Forget the answers that humans have given ahead for these runs or threads."""
    of_these = (standing_rules.c.scope == scope, standing_rules.c.scope_id.in_(ids))
    connection.execute(delete(standing_rules).where(*of_these))


def _by_a_rewind() -> ColumnElement[bool]:
    """Whether a rewind that stands was made from a snapshot, or is undone by it."""
    return exists().where(
        or_(rewinds.c.before == snapshots.c.id, rewinds.c.target == snapshots.c.id),
        rewinds.c.status != "undone",
    )


def _remove_snapshots(connection: Connection, which: ColumnElement[bool]) -> None:
    connection.execute(delete(snapshots).where(which))
    _remove_caches(connection)


def _remove_caches(connection: Connection) -> None:
    """How a workspace last looked is known only as long as the snapshot of that is there."""
    of_this = snapshots.c.workspace == snapshot_folders.c.workspace
    mirrored = exists().where(of_this, snapshots.c.mirrored == 1)
    connection.execute(delete(snapshot_folders).where(~mirrored))


def remove_thread(connection: Connection, thread: str) -> int:
    """Delete a thread, its runs and its conversation; how many checkpoints that were."""
    query = select(runs.c.id).where(runs.c.thread_id == thread)
    remove_runs(connection, list(connection.execute(query).scalars()))
    forget_thread(connection, thread)
    _remove_rules(connection, "thread", [thread])
    _remove_snapshots(connection, snapshots.c.thread_id == thread)
    for table in (rewinds, approvals, checkpoint_writes, vault, served_runs):
        connection.execute(delete(table).where(table.c.thread_id == thread))
    removed = connection.execute(delete(checkpoints).where(checkpoints.c.thread_id == thread))
    connection.execute(delete(threads).where(threads.c.id == thread))
    return removed.rowcount


def is_being_run(connection: Connection, thread: str) -> bool:
    """Whether a process that is alive runs this thread."""
    query = select(threads.c.lease).where(threads.c.id == thread)
    return is_held(connection.execute(query).scalar())


class Stored(NamedTuple):
    """A checkpoint, without its data."""

    ns: str
    id: str
    parent_id: str | None
    rewound: str | None
    metadata: str


def stale_checkpoints(
    connection: Connection, thread: str, gone: Collection[str] = ()
) -> list[Stored]:
    """The checkpoints of a thread that neither its newest state nor a replay needs.

    Needed are the newest one, those that runs began at, what undoing a rewind brings back, and
    their ancestors back to the last full copy of the messages. ``gone`` are runs that are about to
    be removed.
    """
    table = checkpoints
    query = select(table.c.ns, table.c.id, table.c.parent_id, table.c.rewound, table.c.metadata)
    found = connection.execute(query.where(table.c.thread_id == thread).order_by(table.c.id))
    rows = [Stored(*row) for row in found]
    columns = (runs.c.id, runs.c.base_checkpoint, runs.c.rewound)
    kept = [
        row
        for row in connection.execute(select(*columns).where(runs.c.thread_id == thread))
        if row.id not in gone
    ]
    starts = {row.base_checkpoint for row in kept}
    branches = {None, *(row.rewound for row in kept)}
    newest = {(row.ns, row.rewound): row.id for row in rows if row.rewound in branches}
    ends = set(newest.values())
    wanted = [row for row in rows if row.id in starts or row.id in ends]
    needed = _with_ancestors(rows, wanted)
    return [row for row in rows if (row.ns, row.id) not in needed]


def _with_ancestors(rows: Sequence[Stored], wanted: list[Stored]) -> set[tuple[str, str]]:
    by_id: dict[tuple[str, str | None], Stored] = {(row.ns, row.id): row for row in rows}
    needed: set[tuple[str, str]] = set()
    while wanted:
        row = wanted.pop()
        if (row.ns, row.id) in needed:
            continue
        needed.add((row.ns, row.id))
        parent = by_id.get((row.ns, row.parent_id))
        if parent is not None and not _is_whole(row):
            wanted.append(parent)
    return needed


def _is_whole(row: Stored) -> bool:
    """Whether a checkpoint holds its channels in full.

    LangGraph counts, in its metadata, how far each ``DeltaChannel`` is from its last full copy.
    """
    return not json.loads(row.metadata).get("counters_since_delta_snapshot")


def prune(connection: Connection, thread: str) -> int:
    """Delete the stale checkpoints of a thread that is not being run; how many there were."""
    if is_being_run(connection, thread):
        return 0
    stale = stale_checkpoints(connection, thread)
    for ns in {row.ns for row in stale}:
        for some in chunks(row.id for row in stale if row.ns == ns):
            _remove_checkpoints(connection, thread, ns, some)
    return len(stale)


def _remove_checkpoints(connection: Connection, thread: str, ns: str, ids: list[str]) -> None:
    writes = checkpoint_writes
    for table, column in ((writes, writes.c.checkpoint_id), (checkpoints, checkpoints.c.id)):
        connection.execute(
            delete(table).where(table.c.thread_id == thread, table.c.ns == ns, column.in_(ids))
        )


def count_orphans(connection: Connection) -> int:
    """How many rows ``remove_orphans`` would delete."""
    return sum(
        connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one()
        for table, condition in _orphans()
    )


def remove_orphans(connection: Connection) -> int:
    """Delete what a crash has left behind and nothing belongs to; how many rows there were."""
    removed = sum(
        connection.execute(delete(table).where(condition)).rowcount
        for table, condition in _orphans()
    )
    _remove_caches(connection)
    return removed


def _orphans() -> Iterator[tuple[Any, ColumnElement[bool]]]:
    """Rows of conversations without a thread, and snapshots that no run and no rewind needs.

    A crash leaves also writes on a checkpoint that was never stored.
    """
    settled = _id_at(time.time() - SETTLED_AFTER)
    writes = checkpoint_writes
    its_thread = exists().where(threads.c.id == writes.c.thread_id)
    its_checkpoint = exists().where(
        checkpoints.c.thread_id == writes.c.thread_id,
        checkpoints.c.ns == writes.c.ns,
        checkpoints.c.id == writes.c.checkpoint_id,
    )
    yield writes, (writes.c.checkpoint_id < settled) & ~(its_thread & its_checkpoint)
    its_thread = exists().where(threads.c.id == checkpoints.c.thread_id)
    yield checkpoints, (checkpoints.c.id < settled) & ~its_thread
    # Those of a rewind that was undone, and of runs that are gone.
    its_run = exists().where(runs.c.id == snapshots.c.run_id)
    old = snapshots.c.created_at < ago(timedelta(seconds=SETTLED_AFTER))
    yield snapshots, old & ~its_run & ~_by_a_rewind()


def _id_at(seconds: float) -> str:
    """The id that sorts where checkpoints of that time do: LangGraph makes them by UUID 6."""
    since_1582 = int(seconds * 10**7) + 0x01B21DD213814000
    high, middle, low = since_1582 >> 28, since_1582 >> 12 & 0xFFFF, since_1582 & 0xFFF
    return f"{high:08x}-{middle:04x}-6{low:03x}"
