"""Contents that nothing refers to any more: found without a lock, deleted a few at a time.

A content is stored in the transaction that also stores who refers to it. So it is enough to look
again, under the write lock, at those that are about to be deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, delete, func, or_, select

from corral.runtime.database import Database
from corral.runtime.housekeeping.removal import chunks
from corral.runtime.snapshots.trees import reachable, roots
from corral.runtime.tables import blobs, effects


@dataclass(frozen=True)
class Swept:
    """How many contents, and how many bytes they take in the database."""

    blobs: int = 0
    size: int = 0


class Marks:
    """The contents that snapshots need; snapshots that are new are looked through when asked."""

    def __init__(self) -> None:
        self._roots: set[str] = set()
        self._needed: set[str] = set()

    def needed(self, connection: Connection) -> set[str]:
        """The digests of all contents that snapshots need now, or did before."""
        new = roots(connection) - self._roots
        if new:
            self._needed |= reachable(connection, new)
            self._roots |= new
        return self._needed


async def sweep(database: Database) -> Swept:
    """Delete the contents that nothing refers to."""
    marks = Marks()
    found = await database.read(partial(unreferenced, marks=marks))
    count = size = 0
    for some in chunks(found):
        removed = await database.write(partial(_remove, digests=some, marks=marks))
        count, size = count + removed.blobs, size + removed.size
    return Swept(count, size)


def unreferenced(connection: Connection, marks: Marks, gone: Collection[str] = ()) -> list[str]:
    """Contents that no snapshot needs, and no journal but those of the runs in ``gone``."""
    held = held_by_journals(connection, gone) | marks.needed(connection)
    return [
        digest
        for digest in connection.execute(select(blobs.c.digest)).scalars()
        if digest not in held
    ]


def held_by_journals(connection: Connection, gone: Collection[str] = ()) -> set[str]:
    """The contents that entries refer to, but for those of the runs in ``gone``."""
    has_blob = or_(effects.c.request_blob.is_not(None), effects.c.result_blob.is_not(None))
    query = select(effects.c.run_id, effects.c.request_blob, effects.c.result_blob)
    held: set[str] = set()
    for run, request, result in connection.execute(query.where(has_blob)):
        if run not in gone:
            held.update(digest for digest in (request, result) if digest)
    return held


def size_of(connection: Connection, digests: Iterable[str]) -> int:
    """How many bytes these contents take in the database, compressed as they are."""
    total = 0
    for some in chunks(digests):
        query = select(func.sum(func.length(blobs.c.data))).where(blobs.c.digest.in_(some))
        total += connection.execute(query).scalar() or 0
    return total


def _remove(connection: Connection, digests: list[str], marks: Marks) -> Swept:
    """Delete those contents that still nothing refers to."""
    held: set[str | None] = {*marks.needed(connection)}
    for column in (effects.c.request_blob, effects.c.result_blob):
        held.update(connection.execute(select(column).where(column.in_(digests))).scalars())
    free = [digest for digest in digests if digest not in held]
    size = size_of(connection, free)
    connection.execute(delete(blobs).where(blobs.c.digest.in_(free)))
    return Swept(len(free), size)
