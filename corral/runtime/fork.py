"""Forks: a new run that shares another's past up to an effect, and goes on live from there."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from corral.errors import DivergenceError, UsageError
from corral.jsontypes import JsonObject, digest
from corral.policies.provenance.labels import KEY, USER
from corral.policies.redaction import Redactor
from corral.runtime.carried import redacted
from corral.runtime.database import Database
from corral.runtime.effects import Spend
from corral.runtime.entries import Entry, Parting, changed_since, load_entries, shared
from corral.runtime.fork_plan import fork_at, refuse_if_live
from corral.runtime.journal import Journal
from corral.runtime.origin import require_content
from corral.runtime.program import Program
from corral.runtime.replay import replay_past
from corral.runtime.runs import RunRow
from corral.tools.contract import ToolResult


@dataclass(frozen=True)
class ForkPoint:
    """Where a fork parts from its parent: the effect there, and all of the parent's journal."""

    entry: Entry
    entries: tuple[Entry, ...]


async def fork_point(database: Database, run: RunRow, at: int) -> ForkPoint:
    """The effect number ``at`` of a run.

    Raises ``NotFoundError`` when there is none, ``UsageError`` for one that a run cannot part at,
    ``ConflictError`` when the run is going on, or its content was taken out of it.
    """
    require_content(run.id, run.origin)

    def work(connection: Connection) -> list[Entry]:
        refuse_if_live(connection, run.id)
        return load_entries(connection, run.id)

    entries = await database.read(work)
    entry = fork_at(run.id, entries, at)
    return ForkPoint(entry, tuple(entries))


async def check_past(
    database: Database, program: Program, run: RunRow, left: Parting, point: ForkPoint
) -> None:
    """Replay the parent, by its own agent, as far as the fork will share it.

    Raises ``DivergenceError`` when its code has changed so that it takes another way.
    """
    past = shared(point.entries, replace(left, changes={}))
    changed = await database.read(lambda connection: changed_since(connection, run.id))
    journal = Journal(database, run.id, past, changed)
    report = await replay_past(database, program, run, journal)
    if report.divergence is not None:
        raise DivergenceError(
            f"The run {run.id} cannot be replayed up to effect {left.at}: {report.divergence}",
            hint="The agent's code has changed since. Bring it back, or start a new run.",
        )


def replaced_entry(entry: Entry, given: str | JsonObject, redactor: Redactor) -> Entry:
    """The entry with a result given by hand. Raises ``UsageError`` for a kind that has none."""
    result = redacted({**_result_of(entry, given), KEY: USER.to_json()}, redactor)
    return replace(entry, status="finished", result=result, spend=Spend(), duration_ms=0.0)


def _result_of(entry: Entry, given: str | JsonObject) -> JsonObject:
    if isinstance(given, dict) and entry.kind == "tool":
        try:
            return ToolResult.from_json(given).to_json()
        except TypeError:
            return ToolResult(_shown(given), structured=given).to_json()
    if isinstance(given, dict) and entry.kind == "model":
        return _answer(entry, given)
    text = given if isinstance(given, str) else _shown(given)
    if entry.kind == "tool":
        return ToolResult(text).to_json()
    if entry.kind == "agent":
        return {"text": text, "is_error": False}
    if entry.kind == "model":
        return _answer(entry, {"text": text})
    raise UsageError(
        f"The result of effect {entry.seq} ({entry.kind} {entry.name}) cannot be given by hand.",
        hint="Choose a model call, a tool call or a sub-agent: see `corral trace`.",
    )


def _answer(entry: Entry, given: JsonObject) -> JsonObject:
    """A model's answer as the journal has it, from its text and its calls (name and args)."""
    calls, text = given.get("tool_calls", []), given.get("text", "")
    well_formed = isinstance(calls, list) and all(
        isinstance(call, dict)
        and call.keys() == {"name", "args"}
        and isinstance(call["name"], str)
        and isinstance(call["args"], dict)
        for call in calls
    )
    if not well_formed or not isinstance(text, str) or given.keys() - {"text", "tool_calls"}:
        raise UsageError(
            f"The answer for effect {entry.seq} ({entry.name}) is not what a model gives.",
            hint='Give a text, or {"text": "…", "tool_calls": [{"name": "…", "args": {…}}]}.',
        )
    key = f"{entry.run}:{entry.path}"
    message: JsonObject = {"type": "ai", "content": text}
    if calls:
        ids = (f"call_{digest([key, index])[:24]}" for index in range(len(calls)))
        message["tool_calls"] = [
            {**call, "id": id_, "type": "tool_call"} for call, id_ in zip(calls, ids, strict=True)
        ]
    return {
        "id": key,
        "text": text,
        "message": message,
        "stop_reason": "tool_calls" if calls else "stop",
    }


def _shown(value: JsonObject) -> str:
    return json.dumps(value, ensure_ascii=False)
