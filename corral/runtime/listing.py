"""Rows of the database as the records that callers see: plain functions of a connection."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, select

from corral.errors import StorageError
from corral.jsontypes import Json
from corral.runtime import blobs
from corral.runtime.entries import journal_rows
from corral.runtime.paths import BESIDE, asked_about
from corral.runtime.statements import Query
from corral.runtime.tables import effects, runs
from corral.runtime.views import Approval, EffectView, RunView, Totals

_HOW_IT_WENT = (
    *("cached_tokens", "cache_write_tokens", "reasoning_tokens"),
    *("first_token_ms", "generation_ms", "answered_by"),
)


def run_views(connection: Connection, query: Select[Any]) -> list[RunView]:
    """The runs that a query of the table ``runs`` gives, with what they used."""
    rows = connection.execute(query).all()
    forks = [row.id for row in rows if row.parent_run is not None]
    totals = _sums(connection, [row.id for row in rows if row.parent_run is None])
    totals.update({run: _sum(journal_rows(connection, run)) for run in forks})
    return [_run_view(row, *totals.get(row.id, (0, Totals()))) for row in rows]


def run_view(connection: Connection, run: str) -> RunView | None:
    """One run, with what it used; ``None``: there is none."""
    row = _RUN.first(connection, {"run": run})
    if row is None:
        return None
    if row.parent_run is not None:
        return _run_view(row, *_sum(journal_rows(connection, run)))
    used = _USED_BY.first(connection, {"run": run})
    return _run_view(row, *((0, Totals()) if used is None else (used.steps, Totals.of([used]))))


_USED = select(
    effects.c.run_id,
    *(func.sum(effects.c[name]).label(name) for name in vars(Totals())),
    func.count()
    .filter((effects.c.kind == "model") & (effects.c.status == "finished"))
    .label("steps"),
).group_by(effects.c.run_id)
_USED_BY = Query(_USED.where(effects.c.run_id == bindparam("run")))
_RUN = Query(select(runs).where(runs.c.id == bindparam("run")))


def _sums(connection: Connection, wanted: list[str]) -> dict[str, tuple[int, Totals]]:
    query = _USED.where(effects.c.run_id.in_(wanted))
    return {row.run_id: (row.steps, Totals.of([row])) for row in connection.execute(query)}


def _sum(rows: list[Row[Any]]) -> tuple[int, Totals]:
    steps = sum(row.kind == "model" and row.status == "finished" for row in rows)
    return steps, Totals.of(rows)


def _run_view(row: Row[Any], steps: int, usage: Totals) -> RunView:
    return RunView(
        run=row.id,
        thread=row.thread_id,
        agent=row.agent,
        model=row.model,
        status=row.status,
        prompt=row.input,
        output=row.output,
        started_at=row.started_at,
        finished_at=row.finished_at,
        steps=steps,
        usage=usage,
        error=row.error,
        parent=row.parent_run,
        fork_at=row.fork_at,
        pinned=bool(row.pinned),
        origin=row.origin,
        rewound=row.rewound is not None,
    )


def effect_views(connection: Connection, run: str) -> list[EffectView]:
    """A run's journal, by ``seq``, with what it shares. What is damaged is shown as such."""
    return [_effect_view(connection, row) for row in journal_rows(connection, run)]


def effects_at(connection: Connection, run: str, paths: Collection[str]) -> list[EffectView]:
    """The entries that a run made itself at these paths, by ``seq``."""
    here = (effects.c.run_id == run, effects.c.path.in_(paths))
    query = select(effects).where(*here).order_by(effects.c.seq)
    return [_effect_view(connection, row) for row in connection.execute(query)]


def latest_effects(connection: Connection, run: str, count: int) -> list[EffectView]:
    """The newest ``count`` entries that a run made itself, by ``seq``."""
    rows = _LATEST.all(connection, {"run": run, "count": count})
    return [_effect_view(connection, row) for row in reversed(rows)]


_LATEST = Query(
    select(effects)
    .where(effects.c.run_id == bindparam("run"))
    .order_by(effects.c.seq.desc())
    .limit(bindparam("count"))
)


def with_questions(connection: Connection, run: str, paths: Collection[str]) -> list[EffectView]:
    """The same, with the questions about what is at these paths, and the connections of it."""
    query = select(effects.c.path).where(effects.c.run_id == run, effects.c.kind.in_(BESIDE))
    asked = [path for path in connection.execute(query).scalars() if asked_about(path) in paths]
    return effects_at(connection, run, [*paths, *asked])


def _effect_view(connection: Connection, row: Row[Any]) -> EffectView:
    return EffectView(
        seq=row.seq,
        kind=row.kind,
        name=row.name,
        status=row.status,
        request=_readable(connection, row.request, row.request_blob),
        result=_readable(connection, row.result, row.result_blob),
        started_at=row.started_at,
        duration_ms=row.duration_ms,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost_usd=row.cost_usd,
        path=row.path,
        run=row.run_id,
        attempts=row.attempts,
        ended=row.ended,
        **{name: getattr(row, name) for name in _HOW_IT_WENT},
    )


def _readable(connection: Connection, text: str | None, blob: str | None) -> Json:
    """The stored JSON; what is damaged or missing is said, so that the rest can be read."""
    if blob is not None:
        try:
            text = blobs.get(connection, blob).decode()
        except StorageError as error:
            return {"damaged": error.message}
    if text is None:
        return None
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError):
        return {"damaged": text}
    return _without_data(value) if '"base64"' in text else value


def _without_data(value: Json) -> Json:
    """The value with the size of each image or file in it, in place of what is in there."""
    match value:
        case dict():
            return {
                name: _size(one)
                if name == "base64" and isinstance(one, str)
                else _without_data(one)
                for name, one in value.items()
            }
        case list():
            return [_without_data(one) for one in value]
        case _:
            return value


def _size(data: str) -> str:
    return f"[{len(data) * 3 // 4 - data[-2:].count('='):,} bytes, not shown]"


def approval_view(row: Row[Any]) -> Approval:
    """An approval as callers see it."""
    return Approval(
        id=row.id,
        run=row.run_id,
        thread=row.thread_id,
        kind=row.kind,
        tool=row.tool,
        args=json.loads(row.answer_args or row.args),
        reason=row.reason,
        status=row.status,
        created_at=row.created_at,
        always=json.loads(row.always),
        answer_reason=row.answer_reason,
        answer_result=row.answer_result,
        path=row.path,
        answered_at=row.answered_at,
        context=json.loads(row.context) if row.context else {},
        edited=row.answer_args is not None,
        answered_by=row.answered_by,
        expires_at=row.expires_at,
        asked_of=row.asked_of,
        escalated_at=row.escalated_at,
    )
