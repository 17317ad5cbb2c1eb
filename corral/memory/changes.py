"""What changed in the long-term store, so that what a run has changed can be taken back.

A memory is what its changes make of it, one after another. Taking some back (a rewind) marks
them and makes the memory anew from the others; bringing them forward unmarks them and does the
same. So the order in which conversations are rewound does not matter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from corral.jsontypes import JsonObject, canonical
from corral.memory.tables import memories, memory_changes

Op = Literal["remember", "refresh", "forget"]


@dataclass(frozen=True)
class Shift:
    """What taking changes back, or bringing them forward, does to one memory.

    ``before`` and ``after`` are its texts; ``None`` where it is not remembered.
    """

    memory: str
    before: str | None
    after: str | None


def record(connection: Connection, op: Op, before: JsonObject | None, by: JsonObject) -> None:
    """Log what a run has made of a memory, in the transaction that did it.

    ``by`` is the memory's row after the change; of a forgotten one it is the row before, with
    the thread and the run that forgot it.
    """
    connection.execute(
        insert(memory_changes).values(
            memory_id=by["id"],
            thread_id=by["thread"],
            run_id=by["run"],
            op=op,
            before=None if before is None else canonical(before),
            after=None if op == "forget" else canonical(by),
        )
    )


def purge(connection: Connection, memory: str) -> None:
    """Forget a memory in the log too: nothing can bring it back."""
    connection.execute(delete(memory_changes).where(memory_changes.c.memory_id == memory))


def images(connection: Connection, starting: str) -> list[JsonObject]:
    """The newest rows that the log holds of memories whose ids begin so, one each."""
    query = (
        select(memory_changes)
        .where(memory_changes.c.memory_id.startswith(starting, autoescape=True))
        .order_by(memory_changes.c.seq)
    )
    found = {row.memory_id: row.after or row.before for row in connection.execute(query)}
    return [json.loads(image) for image in found.values() if image]


def preview(
    connection: Connection, *, back: Collection[str] = (), forward: str | None = None
) -> list[Shift]:
    """What taking the changes of runs ``back``, or those of a rewind ``forward``, would do."""
    wanted = _of_runs(back) if forward is None else memory_changes.c.rewound == forward

    def stands(change: Row[Any]) -> bool:
        return change.rewound in (None, forward) and change.run_id not in back

    return _shifts(connection, _touched(connection, wanted), stands)


def take_back(connection: Connection, runs: Collection[str], rewind: str) -> list[Shift]:
    """Undo what the runs have changed, and name ``rewind`` as the reason."""
    return _mark(connection, _of_runs(runs), rewind)


def bring_forward(connection: Connection, rewind: str) -> list[Shift]:
    """Do again what ``take_back`` has undone."""
    return _mark(connection, memory_changes.c.rewound == rewind, None)


def _of_runs(runs: Collection[str]) -> ColumnElement[bool]:
    return memory_changes.c.run_id.in_(runs) & memory_changes.c.rewound.is_(None)


def _touched(connection: Connection, wanted: ColumnElement[bool]) -> list[str]:
    query = select(memory_changes.c.memory_id).where(wanted).distinct()
    return sorted(connection.execute(query).scalars())


def _mark(connection: Connection, wanted: ColumnElement[bool], rewind: str | None) -> list[Shift]:
    touched = _touched(connection, wanted)
    connection.execute(update(memory_changes).where(wanted).values(rewound=rewind))
    shifts = _shifts(connection, touched, lambda change: change.rewound is None)
    for memory in touched:
        _store(connection, memory, _image(connection, memory, lambda c: c.rewound is None))
    return shifts


def _shifts(
    connection: Connection, touched: list[str], stands: Callable[[Row[Any]], bool]
) -> list[Shift]:
    """How the texts of memories change when only the changes that stand count."""
    shifts = []
    for memory in touched:
        query = select(memories.c.text).where(memories.c.id == memory)
        before = connection.execute(query).scalar()
        after = (_image(connection, memory, stands) or {}).get("text")
        if before != after:
            shifts.append(Shift(memory, before, after))
    return shifts


def _image(
    connection: Connection, memory: str, stands: Callable[[Row[Any]], bool]
) -> JsonObject | None:
    """What a memory's row is when only the changes that stand have been made."""
    log = connection.execute(
        select(memory_changes)
        .where(memory_changes.c.memory_id == memory)
        .order_by(memory_changes.c.seq)
    ).all()
    standing = [change for change in log if stands(change)]
    text = standing[-1].after if standing else log[0].before
    return json.loads(text) if text else None


def _store(connection: Connection, memory: str, image: JsonObject | None) -> None:
    connection.execute(delete(memories).where(memories.c.id == memory))
    if image is not None:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        # The agent may have been told the same in another conversation meanwhile.
        connection.execute(dialect.insert(memories).values(image).on_conflict_do_nothing())
