"""The tool calls of earlier runs, as far as a rule can be tried on them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import Connection, select

from corral.errors import StorageError
from corral.jsontypes import Json, JsonObject
from corral.policies.facts import ToolCall
from corral.policies.matching import matches
from corral.runtime import blobs
from corral.runtime.approvals.rule_text import rule_of
from corral.runtime.call_facts import call_of_spec, unknown_spec
from corral.runtime.tables import effects, runs, threads
from corral.runtime.views import PastCall
from corral.tools.contract import ToolSpec

LOOKED_AT = 2000
"""How many of the newest calls a preview looks at."""


def would_match(
    connection: Connection, table: JsonObject, workspace: str, sandboxed: Collection[str]
) -> list[PastCall]:
    """The past calls in a workspace that a rule fits, newest first; none of imported runs.

    The calls are as the journals hold them: what their model had read is not known here, so a
    rule that names ``untrusted`` or ``private`` is tried on a context of which nothing is known.
    Raises ``UsageError`` for a rule that cannot be understood.
    """
    rule = rule_of(table, "allow")
    calls = _calls(connection, workspace, frozenset(sandboxed))
    return [past for past, call in calls if matches(rule, call)]


def _calls(
    connection: Connection, workspace: str, sandboxed: frozenset[str]
) -> Iterator[tuple[PastCall, ToolCall]]:
    tools = _Tools(connection)
    columns = (effects.c.run_id, effects.c.seq, effects.c.name, effects.c.started_at)
    query = (
        select(*columns, effects.c.request, effects.c.request_blob)
        .join(runs, runs.c.id == effects.c.run_id)
        .join(threads, threads.c.id == runs.c.thread_id)
        .where(threads.c.workspace == workspace, effects.c.kind == "tool", runs.c.origin.is_(None))
        .order_by(effects.c.started_at.desc(), effects.c.seq.desc())
        .limit(LOOKED_AT)
    )
    for row in connection.execute(query).all():
        request = _stored(connection, row.request, row.request_blob)
        args = request.get("args") if isinstance(request, dict) else None
        if isinstance(args, dict):
            past = PastCall(row.run_id, row.seq, row.name, args, row.started_at)
            spec = tools.spec(row.run_id, row.name)
            yield past, call_of_spec(spec, args, workspace, sandboxed)


class _Tools:
    """The definitions of tools that runs found when they began, each read once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._of_run: dict[str, dict[str, ToolSpec]] = {}
        self._of_text: dict[str, dict[str, ToolSpec]] = {}

    def spec(self, run: str, tool: str) -> ToolSpec:
        if run not in self._of_run:
            query = select(effects.c.result, effects.c.result_blob)
            rows = self._connection.execute(
                query.where(effects.c.run_id == run, effects.c.kind == "prepare")
            ).all()
            found: dict[str, ToolSpec] = {}
            for row in rows:
                found |= self._read(row)
            self._of_run[run] = found
        return self._of_run[run].get(tool) or unknown_spec(tool)

    def _read(self, row: Any) -> dict[str, ToolSpec]:
        key = row.result_blob or row.result or ""
        if key not in self._of_text:
            stored: Any = _stored(self._connection, row.result, row.result_blob) or {}
            specs = map(ToolSpec.from_json, stored.get("tools", ()))
            self._of_text[key] = {spec.name: spec for spec in specs}
        return self._of_text[key]


def _stored(connection: Connection, text: str | None, blob: str | None) -> Json:
    """A stored JSON text; ``None`` for one that is damaged."""
    try:
        whole = text if blob is None else blobs.get(connection, blob).decode()
        value: Json = json.loads(whole or "null")
    except (ValueError, RecursionError, StorageError):
        return None
    return value
