"""What is kept and for how long: ``corral gc``, and pins.

A run goes when it is older than is kept *and* not among the newest of its thread that are kept,
whichever of the two is asked for. Never taken are runs that can go on (running, paused), pinned
ones, and those whose past a kept fork shares. The conversation of a thread stays usable as long as
any of its runs is kept; with the last one the thread goes as a whole.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, exists, func, select, update

from corral.errors import UsageError
from corral.runtime.approvals.answers import find_run, find_thread
from corral.runtime.clock import ago
from corral.runtime.database import Database
from corral.runtime.housekeeping import disk
from corral.runtime.housekeeping.removal import (
    UNFINISHED,
    chunks,
    count_orphans,
    is_being_run,
    prune,
    remove_orphans,
    remove_runs,
    remove_thread,
    stale_checkpoints,
)
from corral.runtime.housekeeping.sweep import Marks, size_of, sweep, unreferenced
from corral.runtime.models.local.states.removal import keep_threads, strangers
from corral.runtime.tables import checkpoint_writes, checkpoints, effects, runs, threads
from corral.runtime.views import Record

_AGE = re.compile(r"(\d{1,6})\s*([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 24 * 7}


@dataclass(frozen=True)
class Retention:
    """Which runs may go: older than ``older_than``, and beyond the newest ``keep`` of their thread.

    ``None`` asks for no such limit; with neither no run goes. ``threads`` restricts it to these.
    """

    older_than: timedelta | None = None
    keep: int | None = None
    threads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept(Record):
    """Runs that would have gone by their age and number, and why they stay."""

    unfinished: int = 0
    pinned: int = 0
    forked: int = 0


@dataclass(frozen=True)
class Collected(Record):
    """What ``collect`` has removed, or would remove. Sizes are bytes on the disk.

    ``contents`` counts long results that nothing refers to any more, ``orphans`` rows that a crash
    left behind, ``states`` conversations that local models saved of threads that are gone. ``note``
    says what could not be done. A dry run estimates ``bytes_after``.
    """

    dry_run: bool
    runs: tuple[str, ...]
    threads: tuple[str, ...]
    checkpoints: int
    contents: int
    orphans: int
    bytes_before: int
    bytes_after: int
    kept: Kept = field(default_factory=Kept)
    note: str | None = None
    states: int = 0


class _Run(NamedTuple):
    """What decides whether a run may go. ``at`` is when it ended, or began."""

    id: str
    thread_id: str
    status: str
    pinned: int
    parent_run: str | None
    at: str


@dataclass(frozen=True)
class _Plan:
    """The runs to remove, newest first within their threads, and the threads that go with them.

    ``about`` are all threads that were looked at.
    """

    about: tuple[str, ...]
    runs: tuple[_Run, ...]
    threads: frozenset[str]
    kept: Kept

    def by_thread(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for row in self.runs:
            found.setdefault(row.thread_id, []).append(row.id)
        return found


def parse_age(text: str) -> timedelta:
    """An age such as ``30d``, ``12h`` or ``8w``. Raises ``UsageError``."""
    match = _AGE.fullmatch(text.strip().lower())
    if match is None:
        raise UsageError(f"{text!r} is no age.", hint="Write a number and h, d or w: 12h, 30d, 8w.")
    return timedelta(hours=int(match[1]) * _HOURS[match[2]])


async def collect(
    database: Database, retention: Retention, *, dry_run: bool = False, states: Path | None = None
) -> Collected:
    """Remove what retention lets go and what nothing needs, and give the room back.

    ``states`` is the folder in which local models save conversations.
    Others may run, read and write meanwhile: every step is a short transaction that looks again
    at what it is about to remove. Raises ``NotFoundError`` for an unknown thread.
    """
    before = await disk.used(database)
    plan = await database.read(lambda c: _plan(c, retention))
    if dry_run:
        found = await database.read(lambda c: _estimate(c, plan, before))
        left = await _known_threads(database) - plan.threads
        return replace(found, states=len(strangers(states, left)) if states else 0)
    gone, ended, removed = await _remove(database, plan)
    for thread in plan.about:
        if await database.read(partial(stale_checkpoints, thread=thread)):
            removed += await database.write(partial(prune, thread=thread))
    orphans = await database.write(remove_orphans)
    swept = await sweep(database)
    note = await disk.give_back(database)
    return Collected(
        dry_run=False,
        runs=tuple(row.id for row in plan.runs if row.id in gone),
        threads=tuple(sorted(ended)),
        checkpoints=removed,
        contents=swept.blobs,
        orphans=orphans,
        bytes_before=before,
        bytes_after=await disk.used(database),
        kept=plan.kept,
        note=note,
        states=await _remove_states(database, states) if states else 0,
    )


def pin(connection: Connection, run: str, *, pinned: bool) -> str:
    """Keep a run whatever its age, or no longer; its full id. Raises ``NotFoundError``."""
    found = find_run(connection, run)
    connection.execute(update(runs).where(runs.c.id == found).values(pinned=int(pinned)))
    return found


async def _known_threads(database: Database) -> set[str]:
    return await database.read(lambda c: set(c.execute(select(threads.c.id)).scalars()))


async def _remove_states(database: Database, folder: Path) -> int:
    known = await _known_threads(database)
    removed = await asyncio.to_thread(keep_threads, folder, known)
    return removed.states


def _threads(connection: Connection, retention: Retention) -> list[str]:
    """The threads that retention is about. Raises ``NotFoundError`` for one that is not there."""
    if retention.threads:
        return [find_thread(connection, thread) for thread in retention.threads]
    return list(connection.execute(select(threads.c.id)).scalars())


def _plan(connection: Connection, retention: Retention) -> _Plan:
    about = dict.fromkeys(_threads(connection, retention))
    columns = (runs.c.id, runs.c.thread_id, runs.c.status, runs.c.pinned, runs.c.parent_run)
    query = select(*columns, func.coalesce(runs.c.finished_at, runs.c.started_at).label("at"))
    found = connection.execute(query.order_by(runs.c.started_at.desc(), runs.c.id.desc()))
    rows = [_Run(*row) for row in found]
    old = [row for row in _due(rows, retention) if row.thread_id in about]
    free = {row.id for row in old if row.status not in UNFINISHED and not row.pinned}
    needed = _shared_by([row for row in rows if row.id not in free], rows)
    going = tuple(row for row in old if row.id in free and row.id not in needed)
    ids = {row.id for row in going}
    staying = {row.thread_id for row in rows if row.id not in ids}
    return _Plan(
        about=tuple(about),
        runs=going,
        threads=frozenset(row.thread_id for row in going) - staying,
        kept=Kept(
            unfinished=sum(row.status in UNFINISHED for row in old),
            pinned=sum(bool(row.pinned) and row.status not in UNFINISHED for row in old),
            forked=len(free & needed),
        ),
    )


def _due(rows: Sequence[_Run], retention: Retention) -> Iterable[_Run]:
    """Of runs, newest first, those that their age and number let go."""
    if retention.older_than is None and retention.keep is None:
        return
    limit = None
    if retention.older_than is not None:
        limit = ago(retention.older_than)
    rank: dict[str, int] = {}
    for row in rows:
        rank[row.thread_id] = rank.get(row.thread_id, 0) + 1
        is_beyond = retention.keep is None or rank[row.thread_id] > retention.keep
        if is_beyond and (limit is None or row.at < limit):
            yield row


def _shared_by(kept: Iterable[_Run], rows: Sequence[_Run]) -> set[str]:
    """The runs whose past a kept fork shares, and theirs in turn."""
    parents = {row.id: row.parent_run for row in rows}
    needed: set[str] = set()
    for row in kept:
        parent = row.parent_run
        while parent is not None and parent not in needed:
            needed.add(parent)
            parent = parents.get(parent)
    return needed


async def _remove(database: Database, plan: _Plan) -> tuple[set[str], list[str], int]:
    """The runs and threads that are gone, and how many checkpoints went with the threads.

    A fork goes before what it shares: as long as something goes, those that are left are tried
    again.
    """
    gone: set[str] = set()
    ended: list[str] = []
    removed = 0
    todo = plan.by_thread()
    while todo:
        progress = False
        for thread, ids in list(todo.items()):
            some = await _remove_some(database, ids)
            gone.update(some)
            progress |= bool(some)
            todo[thread] = [run for run in ids if run not in some]
            if todo[thread]:
                continue
            del todo[thread]
            if thread in plan.threads:
                count = await database.write(partial(_end, thread=thread))
                ended += [thread] if count is not None else []
                removed += count or 0
        if not progress:
            break
    return gone, ended, removed


async def _remove_some(database: Database, ids: Sequence[str]) -> list[str]:
    removed: list[str] = []
    for some in chunks(ids):
        removed += await database.write(partial(_remove_free, ids=some))
    return removed


def _remove_free(connection: Connection, ids: Collection[str]) -> list[str]:
    """Remove those of these runs that are still free to go, and say which."""
    child = runs.alias()
    is_shared = exists().where(child.c.parent_run == runs.c.id)
    query = select(runs.c.id).where(
        runs.c.id.in_(ids), runs.c.pinned == 0, runs.c.status.not_in(UNFINISHED), ~is_shared
    )
    free = list(connection.execute(query).scalars())
    remove_runs(connection, free)
    return free


def _end(connection: Connection, thread: str) -> int | None:
    """Remove a thread that has no run left; ``None`` when it has gone on meanwhile."""
    query = select(func.count()).where(runs.c.thread_id == thread)
    if connection.execute(query).scalar_one() or is_being_run(connection, thread):
        return None
    return remove_thread(connection, thread)


def _estimate(connection: Connection, plan: _Plan, before: int) -> Collected:
    """What ``collect`` would do, and about how much room that gives."""
    gone = {row.id for row in plan.runs}
    contents = unreferenced(connection, Marks(), gone)
    stale = {
        thread: [row.id for row in stale_checkpoints(connection, thread, gone)]
        for thread in plan.about
        if thread not in plan.threads
    }
    for thread in plan.threads:
        query = select(checkpoints.c.id).where(checkpoints.c.thread_id == thread)
        stale[thread] = list(connection.execute(query).scalars())
    free = size_of(connection, contents) + _size_of_journals(connection, gone)
    free += sum(_size_of_checkpoints(connection, thread, ids) for thread, ids in stale.items())
    return Collected(
        dry_run=True,
        runs=tuple(row.id for row in plan.runs),
        threads=tuple(sorted(plan.threads)),
        checkpoints=sum(map(len, stale.values())),
        contents=len(contents),
        orphans=count_orphans(connection),
        bytes_before=before,
        bytes_after=max(0, before - free),
        kept=plan.kept,
    )


def _size_of_journals(connection: Connection, ids: Iterable[str]) -> int:
    lengths = func.length(effects.c.request) + func.length(func.coalesce(effects.c.result, ""))
    total = 0
    for some in chunks(ids):
        query = select(func.sum(lengths)).where(effects.c.run_id.in_(some))
        total += connection.execute(query).scalar() or 0
    return total


def _size_of_checkpoints(connection: Connection, thread: str, ids: Iterable[str]) -> int:
    total = 0
    for some in chunks(ids):
        for table, column in (
            (checkpoints, checkpoints.c.id),
            (checkpoint_writes, checkpoint_writes.c.checkpoint_id),
        ):
            query = select(func.sum(func.length(table.c.data)))
            total += (
                connection.execute(
                    query.where(table.c.thread_id == thread, column.in_(some))
                ).scalar()
                or 0
            )
    return total
