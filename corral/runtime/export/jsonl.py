"""Export to JSON lines: one run with all that it takes to look at it and replay it elsewhere.

The same run gives the same bytes. A fork is exported with its past: what its parent had done by
then, whoever of its ancestors did it, stands as one earlier run. What belongs to this machine
alone is left out: folders, the policy and the limits that were granted here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, islice
from typing import Any, BinaryIO

from sqlalchemy import Connection, Row, select

from corral.errors import StorageError
from corral.jsontypes import JsonObject
from corral.runtime.database import Database
from corral.runtime.effects import Spend
from corral.runtime.entries import Entry, Parting, entries_of, follows, journal_rows, parting
from corral.runtime.export import forms, scrub
from corral.runtime.export.lines import LineWriter
from corral.runtime.export.question_forms import portable_context
from corral.runtime.paths import BESIDE, asked_about
from corral.runtime.tables import approvals, effects, runs, threads

OWN_CODE = ("functions", "own_model", "own_graph")
"""What a run's spec says about the code of the program that made it."""

_AT_ONCE = 100  # effects that are in memory at the same time


@dataclass(frozen=True)
class Written:
    """What an export holds. ``sum`` identifies its content."""

    run: str
    effects: int
    approvals: int
    sum: str


@dataclass(frozen=True)
class Exported:
    """What is to be exported: a run by its full id, and its thread as it was before.

    ``state`` are lines, see ``state.state_lines``. ``scrubbed`` takes the content out.
    """

    run: str
    state: Sequence[JsonObject] = ()
    scrubbed: bool = False
    scrubber: scrub.Scrubber = field(default_factory=scrub.Scrubber, compare=False)


async def write_jsonl(database: Database, what: Exported, target: BinaryIO) -> Written:
    """Write a run. Raises ``StorageError`` for a damaged journal, ``ConfigError`` when it is too
    large for an import."""
    return await database.read(lambda connection: _write(connection, what, target))


def _write(connection: Connection, what: Exported, target: BinaryIO) -> Written:
    writer = LineWriter(target)
    header = forms.Header(corral=forms.CORRAL, scrubbed=what.scrubbed)
    writer.write(header.model_dump())
    left = parting(connection, what.run)
    own = [row for row in _keys(connection, what.run) if row.run_id == what.run]
    past = [] if left is None else past_of(_keys(connection, left.parent), left)
    if left is not None:
        writer.write(_origin(_run_row(connection, left.parent), "past", what))
    writer.write(_run(_run_row(connection, what.run), what, left))
    for line in () if what.scrubbed else what.state:
        writer.write(line)
    for entry in _entries(connection, past):
        there = left is not None and entry.seq == left.at
        # What a fork parts at is not its own: only where it was.
        writer.write(_effect(_unended(entry) if there else entry, what, past=True))
    for entry in _entries(connection, own):
        writer.write(_effect(entry, what))
    questions = list(_approvals(connection, what))
    for question in questions:
        writer.write(question)
    count = len(past) + len(own)
    writer.write(forms.End(effects=count, approvals=len(questions)).model_dump())
    return Written(what.run, count, len(questions), writer.last)


def _keys(connection: Connection, run: str) -> list[Row[Any]]:
    """The journal of a run without its contents."""
    columns = [column for column in effects.c if column.name not in ("request", "result")]
    return journal_rows(connection, run, *columns)


def past_of(parent: Sequence[Any], left: Parting) -> list[Row[Any]]:
    """The rows of a parent's journal that decide what a fork shares, and where it parts."""
    at = next((row for row in parent if row.seq == left.at), None)
    if at is None:
        raise StorageError(
            f"The run {left.parent}, which this one shares up to effect {left.at}, is incomplete.",
            hint="Restore the database from a backup; every other run stays readable.",
        )
    kept = [
        row for row in parent if row is at or not (follows(row, at) or _nested(row.path, at.path))
    ]
    # A question goes with its call: about a later one it would tell what the fork never knew.
    paths = {row.path for row in kept if row.kind not in BESIDE}
    return [row for row in kept if row.kind not in BESIDE or asked_about(row.path) in paths]


def _nested(path: str, other: str) -> bool:
    return path.startswith(f"{other}/") or other.startswith(f"{path}/")


def _entries(connection: Connection, keys: Iterable[Row[Any]]) -> Iterator[Entry]:
    """The entries with these keys, in their order, a few in memory at a time."""
    for run, of_run in groupby(keys, key=lambda row: row.run_id):
        while some := [row.seq for row in islice(of_run, _AT_ONCE)]:
            query = select(effects).where(effects.c.run_id == run, effects.c.seq.in_(some))
            for row in connection.execute(query.order_by(effects.c.seq)).all():
                yield from entries_of(connection, [row])


def _run_row(connection: Connection, run: str) -> Row[Any]:
    query = select(runs, threads.c.title).join(threads, threads.c.id == runs.c.thread_id)
    return connection.execute(query.where(runs.c.id == run)).one()


def _origin(row: Row[Any], kind: str, what: Exported) -> JsonObject:
    text = scrub.text if what.scrubbed else _same
    return {
        "type": kind,
        "id": row.id,
        "agent": row.agent,
        "model": scrub.model_name(row.model) if what.scrubbed else row.model,
        "spec": {} if what.scrubbed else portable(json.loads(row.spec)),
        "graph_version": row.graph_version,
        "prompt": text(row.input),
        "started_at": row.started_at,
        "code": None if what.scrubbed or row.code is None else json.loads(row.code),
    }


def _run(row: Row[Any], what: Exported, left: Parting | None) -> JsonObject:
    text = scrub.text if what.scrubbed else _same
    changes = {} if left is None else left.changes
    fork = (
        {"at": left.at, "changes": scrub.values(changes) if what.scrubbed else changes}
        if left
        else None
    )
    return {
        **_origin(row, "run", what),
        "title": text(row.title),
        "status": row.status,
        "output": text(row.output),
        "error": None if row.error is None else text(row.error),
        "finished_at": row.finished_at,
        "fork": fork,
        "tags": [text(tag) for tag in json.loads(row.tags or "[]")],
    }


def _same(text: str) -> str:
    return text


def portable(spec: JsonObject) -> JsonObject:
    """What describes a run's agent, without what its machine had granted it."""
    agent = spec.get("agent")
    known: JsonObject = {key: spec[key] for key in OWN_CODE if key in spec}
    return {"agent": _without_limits(agent), "policy": None, **known}


def _without_limits(agent: Any) -> Any:
    if not isinstance(agent, dict):
        return agent
    bare = {key: value for key, value in agent.items() if key != "limits"}
    team = bare.get("agents")
    if isinstance(team, list | tuple):
        bare["agents"] = [_without_limits(one) for one in team]
    return bare


def _unended(entry: Entry) -> Entry:
    """An effect that was asked for; ``seen`` stays, by which a fork knows what came of it."""
    return replace(
        entry, status="started", result=None, ended=None, duration_ms=None, spend=Spend()
    )


def _effect(entry: Entry, what: Exported, *, past: bool = False) -> JsonObject:
    if what.scrubbed:
        entry = what.scrubber.entry(entry)
    fields = asdict(replace(entry, run="", request={}, result=None))
    spend = fields.pop("spend")
    del fields["run"]
    return {
        "type": "effect",
        "past": past,
        **fields,
        **spend,
        "request": entry.request,
        "result": entry.result,
    }


def _approvals(connection: Connection, what: Exported) -> Iterator[JsonObject]:
    query = select(approvals).where(approvals.c.run_id == what.run)
    for row in connection.execute(query.order_by(approvals.c.created_at, approvals.c.id)):
        line = {
            "type": "approval",
            "id": row.id,
            "path": row.path,
            "kind": row.kind,
            "tool": row.tool,
            "args": json.loads(row.args),
            "input_schema": json.loads(row.input_schema),
            "reason": row.reason,
            "always": json.loads(row.always),
            "status": "pending" if row.status == "withdrawn" else row.status,
            "answer_args": json.loads(row.answer_args) if row.answer_args else None,
            "answer_reason": row.answer_reason,
            "answer_result": row.answer_result,
            "created_at": row.created_at,
            "answered_at": row.answered_at,
            "context": portable_context(json.loads(row.context or "{}")),
            "answered_by": row.answered_by,
        }
        yield what.scrubber.question(line) if what.scrubbed else line
