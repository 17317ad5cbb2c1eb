"""Deleting a thread for good: everything that belongs to it, so that no file holds it any more.

That is its runs with their journals and questions, its conversation, the snapshots of its
workspace, the contents that only it refers to, the facts that came from it alone, and what local
models have saved of it. A fork in another thread holds the past that it shares: either it is
deleted as well or nothing is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from corral.errors import ConflictError, StorageError
from corral.memory.withdrawal import withdraw
from corral.runtime.approvals.answers import find_thread
from corral.runtime.database import Database
from corral.runtime.housekeeping import disk
from corral.runtime.housekeeping.removal import is_being_run, remove_thread
from corral.runtime.housekeeping.sweep import sweep
from corral.runtime.models.local.states.removal import remove_threads
from corral.runtime.tables import runs
from corral.runtime.views import Record


@dataclass(frozen=True)
class Deletion(Record):
    """What deleting a thread takes with it.

    ``threads`` are the thread itself and, when they were asked for, those that were forked from
    it. ``prompts`` are what their users have said.
    """

    threads: tuple[str, ...]
    runs: tuple[str, ...]
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Deleted(Record):
    """What was deleted. ``memories`` counts forgotten facts, ``contents`` long results.

    ``states`` are conversations that a local model could have gone on with.
    ``note`` says what could not be done, and how to do it: for how long a file still holds it.
    """

    threads: tuple[str, ...]
    runs: tuple[str, ...]
    memories: int
    contents: int
    bytes_before: int
    bytes_after: int
    note: str | None = None
    states: int = 0


async def delete_thread(
    database: Database, thread: str, *, with_forks: bool = False, states: Path | None = None
) -> Deleted:
    """Delete a thread; local models save theirs in the folder ``states``. Raises as ``look``."""
    before = await disk.used(database)

    def work(connection: Connection) -> tuple[Deletion, int]:
        found = look(connection, thread, with_forks=with_forks)
        forgotten = 0
        for one in found.threads:
            forgotten += withdraw(connection, one)
            remove_thread(connection, one)
        return found, forgotten

    found, forgotten = await database.write(work)
    removed = await asyncio.to_thread(_remove_states, states, found.threads) if states else 0
    swept = await sweep(database)
    note = await disk.give_back(database)
    return Deleted(
        threads=found.threads,
        runs=found.runs,
        memories=forgotten,
        contents=swept.blobs,
        bytes_before=before,
        bytes_after=await disk.used(database),
        note=note,
        states=removed,
    )


def _remove_states(folder: Path, threads: Sequence[str]) -> int:
    try:
        return remove_threads(folder, threads).states
    except OSError as error:
        raise StorageError(
            f"What a local model saved of the deleted thread is still in {folder}: "
            f"{error.strerror}.",
            hint="Make the folder writable, and run `corral gc`.",
        ) from error


def look(connection: Connection, thread: str, *, with_forks: bool) -> Deletion:
    """What would be deleted; ``thread`` is its id, a unique beginning of it, or ``last``.

    Raises ``NotFoundError`` when there is no such thread, ``ConflictError`` when it is being run or
    when a fork in another thread shares its past and ``with_forks`` is false.
    """
    thread = find_thread(connection, thread)
    found = _with_forks(connection, thread)
    if len(found) > 1 and not with_forks:
        names = ", ".join(found[1:])
        raise ConflictError(
            f"The thread {thread} cannot be deleted alone: forks of it share its past ({names}).",
            hint=f"`corral delete {thread} --with-forks` deletes them too.",
        )
    for one in found:
        if is_being_run(connection, one):
            raise ConflictError(
                f"The thread {one} is being run.",
                hint="Wait until it is done, or stop it there with Ctrl-C; nothing was deleted.",
            )
    query = select(runs.c.id, runs.c.input).where(runs.c.thread_id.in_(found))
    rows = connection.execute(query.order_by(runs.c.started_at)).all()
    return Deletion(
        threads=tuple(found),
        runs=tuple(row.id for row in rows),
        prompts=tuple(row.input for row in rows),
    )


def _with_forks(connection: Connection, thread: str) -> list[str]:
    """A thread, and all that were forked from it, directly or not."""
    found = [thread]
    parent = runs.alias()
    for one in found:
        query = (
            select(runs.c.thread_id)
            .join(parent, parent.c.id == runs.c.parent_run)
            .where(parent.c.thread_id == one)
            .distinct()
        )
        found += [fork for fork in connection.execute(query).scalars() if fork not in found]
    return found
