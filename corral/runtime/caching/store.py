"""The kept answers: rows that say in which entry of a journal an answer is.

The answer itself stays where it was journaled. So it is gone with its run, and what a damaged or
removed journal does not hold any more is an answer that nobody has.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from corral.errors import StorageError
from corral.jsontypes import JsonObject
from corral.runtime.caching.contract import Question
from corral.runtime.caching.similarity import Vector, cosine, marks, packed, unpacked
from corral.runtime.clock import now
from corral.runtime.entries import Entry, entries_of
from corral.runtime.tables import effects, kept_answers

MOST_COMPARED = 1000
"""Prompts, the newest of a scope, that a new one is compared with."""


ALMOST = 0.9999
"""How similar another prompt is at most: 1 is the very same request."""


@dataclass(frozen=True)
class Kept:
    """An answer that was found: who gave it, to which prompt, and how similar that is."""

    key: str
    run: str
    path: str
    value: JsonObject
    prompt: str
    similarity: float = 1.0


@dataclass(frozen=True)
class KeptTotals:
    """How many answers are kept, of which kinds, and how often one of them was given again."""

    answers: int
    hits: int
    expired: int
    by_kind: dict[str, int]


def find(connection: Connection, question: Question) -> Kept | None:
    """The answer to the very same request."""
    table = kept_answers
    wanted = (table.c.key == question.key, table.c.expires_at > now())
    row = connection.execute(select(table).where(*wanted)).one_or_none()
    return None if row is None else _kept(connection, row)


def find_similar(
    connection: Connection, question: Question, vector: Vector, threshold: float
) -> Kept | None:
    """The answer to the most similar prompt that is similar enough and names the same things."""
    table = kept_answers
    query = (
        select(table)
        .where(
            table.c.scope == question.scope,
            table.c.expires_at > now(),
            table.c.embedding.is_not(None),
        )
        .order_by(table.c.made_at.desc())
        .limit(MOST_COMPARED)
    )
    alike = [(cosine(vector, unpacked(row.embedding)), row) for row in connection.execute(query)]
    own = marks(question.text)
    for similarity, row in sorted(alike, key=lambda one: one[0], reverse=True):
        if similarity < threshold:
            return None
        kept = _kept(connection, row)
        if kept is not None and marks(kept.prompt) == own:
            return replace(kept, similarity=min(round(similarity, 4), ALMOST))
    return None


def keep(
    connection: Connection, question: Question, entry: Entry, expires_at: str, vector: Vector | None
) -> None:
    """Keep an answer; it takes the place of an older one to the same request."""
    at = now()
    row = {
        "run_id": entry.run,
        "path": entry.path,
        "kind": question.kind,
        "scope": question.scope,
        "embedding": None if vector is None else packed(vector),
        "made_at": at,
        "used_at": at,
        "expires_at": expires_at,
        "hits": 0,
    }
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(kept_answers).values(key=question.key, **row)
    connection.execute(insert.on_conflict_do_update(index_elements=["key"], set_=row))


def used(connection: Connection, key: str) -> None:
    """An answer was given again."""
    table = kept_answers
    given = update(table).where(table.c.key == key)
    connection.execute(given.values(used_at=now(), hits=table.c.hits + 1))


def let_go(connection: Connection, most: int) -> None:
    """Remove what has expired, and the least recently used beyond ``most``."""
    table = kept_answers
    connection.execute(delete(table).where(table.c.expires_at <= now()))
    newest = select(table.c.key).order_by(table.c.used_at.desc(), table.c.key).limit(most)
    connection.execute(delete(table).where(table.c.key.not_in(newest)))


def clear(connection: Connection) -> int:
    """Keep nothing any more; how many answers that were."""
    return connection.execute(delete(kept_answers)).rowcount


def totals(connection: Connection) -> KeptTotals:
    """What is kept now."""
    table = kept_answers
    counts = select(table.c.kind, func.count()).group_by(table.c.kind)
    by_kind = {str(kind): int(count) for kind, count in connection.execute(counts)}
    hits = connection.execute(select(func.sum(table.c.hits))).scalar()
    old = select(func.count()).where(table.c.expires_at <= now())
    return KeptTotals(
        answers=sum(by_kind.values()),
        hits=int(hits or 0),
        expired=connection.execute(old).scalar_one(),
        by_kind=by_kind,
    )


def _kept(connection: Connection, row: Row[Any]) -> Kept | None:
    its = (effects.c.run_id == row.run_id, effects.c.path == row.path)
    query = select(effects).where(*its, effects.c.status == "finished")
    try:
        found = entries_of(connection, connection.execute(query).all())
    except StorageError:
        return None  # damaged: the model is asked
    value = found[0].result or {} if found else {}
    if not _is_answer(value):
        return None
    return Kept(row.key, row.run_id, row.path, value, _prompt(found[0]))


def _is_answer(value: JsonObject) -> bool:
    match value:
        case {"message": {"type": "ai"}, "text": str(), "stop_reason": str(), "label": dict()}:
            return True
    return False


def _prompt(entry: Entry) -> str:
    messages = entry.request.get("messages") or [{}]
    content = messages[-1].get("content", "")
    return content if isinstance(content, str) else json.dumps(content)
