"""What is left of the long-term store when a thread is deleted.

A fact that only this thread has told is forgotten, and so are its images in the log of changes. One
that others have told as well stays as they told it. Plain functions of a connection.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from corral.memory.tables import memories, memory_changes


def withdraw(connection: Connection, thread: str) -> int:
    """Take back what a thread has told; how many facts are forgotten by that."""
    log = memory_changes
    touched = set(
        connection.execute(select(log.c.memory_id).where(log.c.thread_id == thread)).scalars()
    )
    told = select(memories.c.id).where(memories.c.thread == thread)
    touched.update(connection.execute(told).scalars())
    connection.execute(delete(log).where(log.c.thread_id == thread))
    return sum(_without(connection, memory) for memory in sorted(touched))


def _without(connection: Connection, memory: str) -> int:
    """Make a fact what the changes that are left say; 1 when it is forgotten."""
    rest = _changes_left(connection, memory)
    standing = [change for change in rest if change.rewound is None]
    image = standing[-1].after if standing else None
    mine = memories.c.id == memory
    if image is not None:
        connection.execute(update(memories).where(mine).values(json.loads(image)))
        return 0
    return connection.execute(delete(memories).where(mine)).rowcount


def _changes_left(connection: Connection, memory: str) -> Sequence[Row[Any]]:
    """The log of a fact, from where another thread first told it.

    What came before (what it was, and that somebody made it be forgotten) is the thread's alone.
    """
    log = memory_changes
    rows = connection.execute(
        select(log).where(log.c.memory_id == memory).order_by(log.c.seq)
    ).all()
    first = next((n for n, row in enumerate(rows) if row.after is not None), len(rows))
    early = [row.seq for row in rows[:first]]
    connection.execute(delete(log).where(log.c.seq.in_(early)))
    if rest := rows[first:]:
        connection.execute(update(log).where(log.c.seq == rest[0].seq).values(before=None))
    return rest
