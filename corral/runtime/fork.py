"""Forks: a new run that shares another's past up to an effect, and goes on live from there."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from corral.errors import DivergenceError, NotFoundError, UsageError
from corral.jsontypes import JsonObject
from corral.policies.redaction import Redactor
from corral.runtime.database import Database
from corral.runtime.effects import Spend
from corral.runtime.entries import Entry, Parting, load_entries, shared
from corral.runtime.journal import Journal
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

    Raises ``NotFoundError`` when there is none, ``UsageError`` for one that a run cannot part at.
    """

    def work(connection: Connection) -> list[Entry]:
        return load_entries(connection, run.id)

    entries = await database.read(work)
    entry = next((entry for entry in entries if entry.seq == at), None)
    if entry is None:
        last = entries[-1].seq if entries else 0
        raise NotFoundError(
            f"The run {run.id} has no effect {at}.",
            hint=f"Its effects are 1 to {last}: see `corral trace {run.id}`."
            if last
            else "It has none yet: see `corral trace`.",
        )
    if entry.kind == "approval":
        around = (e for e in entries if entry.path.startswith(f"{e.path}/"))
        call = next(around, None)
        where = f"fork at the call itself, effect {call.seq}" if call else "fork before it"
        raise UsageError(
            f"Effect {at} of the run {run.id} is a question to a human.",
            hint=f"Its answer decides about a call: {where}. A fork asks again.",
        )
    return ForkPoint(entry, tuple(entries))


async def check_past(
    database: Database, program: Program, run: RunRow, left: Parting, point: ForkPoint
) -> None:
    """Replay the parent, by its own agent, as far as the fork will share it.

    Raises ``DivergenceError`` when its code has changed so that it takes another way.
    """
    past = shared(point.entries, replace(left, changes={}))
    journal = Journal(database, run.id, [replace(entry, run=run.id) for entry in past])
    report = await replay_past(database, program, run, journal)
    if report.divergence is not None:
        raise DivergenceError(
            f"The run {run.id} cannot be replayed up to effect {left.at}: {report.divergence}",
            hint="The agent's code has changed since. Bring it back, or start a new run.",
        )


def replaced_entry(entry: Entry, given: str | JsonObject, redactor: Redactor) -> Entry:
    """The entry with a result given by hand. Raises ``UsageError`` for a kind that has none."""
    result = redactor.json(_result_of(entry, given))
    assert isinstance(result, dict)
    return replace(entry, status="finished", result=result, spend=Spend(), duration_ms=0.0)


def _result_of(entry: Entry, given: str | JsonObject) -> JsonObject:
    if isinstance(given, dict) and entry.kind == "tool":
        try:
            return ToolResult.from_json(given).to_json()
        except TypeError:
            given = ToolResult(_shown(given), structured=given).text
    text = given if isinstance(given, str) else _shown(given)
    if entry.kind == "tool":
        return ToolResult(text).to_json()
    if entry.kind == "agent":
        return {"text": text, "is_error": False}
    if entry.kind == "model":
        return {
            "id": f"{entry.run}:{entry.path}",
            "text": text,
            "message": {"type": "ai", "content": text},
            "stop_reason": "stop",
        }
    raise UsageError(
        f"The result of effect {entry.seq} ({entry.kind} {entry.name}) cannot be given by hand.",
        hint="Choose a model call, a tool call or a sub-agent: see `corral trace`.",
    )


def _shown(value: JsonObject) -> str:
    return json.dumps(value, ensure_ascii=False)
