"""Results of tools that the journals of a conversation hold, found again by their handles.

A conversation is a run, the runs of its thread that it goes on from, and what they share as forks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from corral.errors import NotFoundError
from corral.jsontypes import JsonObject
from corral.policies.provenance.labels import KEY as LABEL
from corral.policies.provenance.labels import PUBLIC, Label
from corral.runtime.entries import entries_of, journal_rows
from corral.runtime.previews import handle_of, is_handle, place_digits
from corral.runtime.tables import effects, rewinds, runs, spent_before

_CALLS = ("tool", "agent")
_LOOKED_AT = (
    *(effects.c.run_id, effects.c.seq, effects.c.path, effects.c.kind, effects.c.status),
    *(effects.c.asked, effects.c.seen),
)


@dataclass(frozen=True)
class StoredResult:
    """The whole text of a result, and where it came from."""

    text: str
    label: Label


def find_result(connection: Connection, run: str, handle: str) -> StoredResult:
    """The result that a handle names in the conversation of a run.

    Raises ``NotFoundError`` for one that is not there, or not any more.
    """
    if not is_handle(handle):
        raise NotFoundError(
            f"{handle[:40]!r} is no handle of a result.",
            hint="A handle has 12 characters, 0-9 and a-f; it stands at the top of the result.",
        )
    conversation = list(dict.fromkeys(_conversation(connection, run)))
    found = [
        value
        for row in _at_place(connection, conversation, handle)
        for value in (_value(connection, row),)
        if handle_of(row.path, str(value.get("text", ""))) == handle
    ]
    if not found:
        raise _missing(connection, conversation, handle)
    # Alike in place and text: whatever made one of them, each may have been meant.
    label = PUBLIC.join(*(Label.from_json(value.get(LABEL)) for value in found))
    return StoredResult(str(found[0]["text"]), label)


def _at_place(connection: Connection, conversation: list[str], handle: str) -> Iterator[Row[Any]]:
    """The calls of a conversation whose place fits the handle."""
    for run in conversation:
        for row in journal_rows(connection, run, *_LOOKED_AT):
            if row.kind not in _CALLS or row.status != "finished":
                continue
            if handle.startswith(place_digits(row.path)):
                yield row


def _value(connection: Connection, row: Row[Any]) -> JsonObject:
    which = (effects.c.run_id == row.run_id, effects.c.seq == row.seq)
    (entry,) = entries_of(connection, connection.execute(select(effects).where(*which)).all())
    return entry.result or {}


def _conversation(connection: Connection, run: str) -> Iterator[str]:
    """A run, and those before it that its thread holds; of a fork also those of its parent's."""
    yield run
    line = [run, *_before(connection, run)]
    yield from line[1:]
    parents = select(runs.c.parent_run).where(runs.c.id.in_(line), runs.c.parent_run.is_not(None))
    for parent in connection.execute(parents).scalars().all():
        _own, *earlier = _conversation(connection, str(parent))
        yield from earlier


def _before(connection: Connection, run: str) -> list[str]:
    """The runs of the same thread that stood when this one began, newest first."""
    mine = connection.execute(
        select(runs.c.thread_id, runs.c.started_at).where(runs.c.id == run)
    ).one()
    stood = or_(runs.c.rewound.is_(None), rewinds.c.created_at > mine.started_at)
    query = (
        select(runs.c.id)
        .outerjoin(rewinds, rewinds.c.id == runs.c.rewound)
        .where(runs.c.thread_id == mine.thread_id, runs.c.started_at < mine.started_at, stood)
        .order_by(runs.c.started_at.desc(), runs.c.id.desc())
    )
    return list(connection.execute(query).scalars())


def _missing(connection: Connection, conversation: list[str], handle: str) -> NotFoundError:
    threads = select(runs.c.thread_id).where(runs.c.id.in_(conversation))
    removed = select(spent_before.c.id).where(spent_before.c.thread_id.in_(threads)).limit(1)
    if connection.execute(removed).first() is not None:
        return NotFoundError(
            f"The result {handle} is not stored any more: its run was removed by `corral gc`.",
            hint="Make the call again to have it again.",
        )
    return NotFoundError(
        f"There is no result {handle} in this conversation.",
        hint="Copy the handle from the top of the result; what another conversation has read is "
        "not to be had here.",
    )
