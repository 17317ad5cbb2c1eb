"""What a run begins with: what the user has asked for, in their own words, and its label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import Connection, bindparam, select

from corral.policies.provenance.labels import UNKNOWN, Label
from corral.policies.requests import own_words, request_label
from corral.runtime.statements import Query
from corral.runtime.tables import runs

MAX_PROMPTS = 100
"""How many of the conversation's newest requests count."""


@dataclass(frozen=True)
class Beginning:
    """What the user has written in the conversation, and the label of what the run begins with.

    Of a conversation that goes on, the label is that of all that it may hold.
    """

    said: tuple[str, ...]
    label: Label


def beginning(connection: Connection, run: str) -> Beginning:
    """What a run begins with. What a rewind has taken back does not count."""
    row = _RUN.one(connection, {"run": run})
    label = request_label(row.input)
    said = dict.fromkeys([row.input, *islice(_earlier(connection, run), MAX_PROMPTS)])
    held = label if row.base_checkpoint is None else label.join(UNKNOWN)
    return Beginning(tuple(map(own_words, said)), held)


def _earlier(connection: Connection, run: str) -> Iterator[str]:
    """The requests before a run in its conversation, the newest first.

    A fork's conversation is its parent's, up to where the parent began.
    """
    at: str | None = run
    while at is not None:
        row = _RUN.one(connection, {"run": at})
        before = _BEFORE.all(connection, {"thread": row.thread_id, "began": row.started_at})
        yield from (earlier.input for earlier in before)
        at = row.parent_run


_RUN = Query(
    select(
        *(runs.c.input, runs.c.base_checkpoint),
        *(runs.c.thread_id, runs.c.started_at, runs.c.parent_run),
    ).where(runs.c.id == bindparam("run"))
)
_BEFORE = Query(
    select(runs.c.input)
    .where(
        runs.c.thread_id == bindparam("thread"),
        runs.c.started_at < bindparam("began"),
        runs.c.rewound.is_(None),
    )
    .order_by(runs.c.started_at.desc())
    .limit(MAX_PROMPTS)
)
