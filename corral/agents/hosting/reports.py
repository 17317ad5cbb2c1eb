"""How an order stands, read from the database: its run, its questions and its latest steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, bindparam, select

from corral.agents.hosting import steps
from corral.agents.hosting.contract import HostedStatus, Report
from corral.agents.hosting.orders import Served
from corral.jsontypes import Json, JsonObject
from corral.runtime.listing import approval_view, latest_effects, run_view
from corral.runtime.statements import Query
from corral.runtime.tables import approvals, runs
from corral.runtime.views import Approval, EffectView, RunView

_READ = 40
"""Entries of a journal that are read for its latest steps: not every one is told."""


def report(connection: Connection, served: Served) -> Report:
    """How one order stands, with its latest steps."""
    (found,) = reports(connection, [served])
    entries = latest_effects(connection, served.run, _READ)
    if entries:
        found = replace(found, happened=steps.in_words(entries), updated_at=_latest(found, entries))
    return replace(found, value=_value(connection, served, found))


def reports(connection: Connection, orders: Sequence[Served]) -> list[Report]:
    """How orders stand; what has ``happened`` in them is left out."""
    return [_standing(connection, served).report() for served in orders]


def _standing(connection: Connection, served: Served) -> _Standing:
    run = {"run": served.run}
    asked = tuple(map(approval_view, _ASKED.all(connection, run)))
    return _Standing(served, run_view(connection, served.run), asked)


_ASKED = Query(
    select(approvals)
    .where(approvals.c.run_id == bindparam("run"), approvals.c.status == "pending")
    .order_by(approvals.c.created_at, approvals.c.id)
)


@dataclass(frozen=True)
class _Standing:
    """An order, its run if that has begun, and the questions that wait."""

    served: Served
    run: RunView | None
    asked: tuple[Approval, ...]

    def report(self) -> Report:
        served, run = self.served, self.run
        status = self._status()
        plain = Report(
            run=served.run,
            thread=served.thread,
            agent=served.order.agent,
            status=status,
            error=served.error or "",
            created_at=served.created_at,
            updated_at=served.created_at,
            prompt=served.order.prompt,
            key=served.key,
        )
        if run is None:
            return plain
        return replace(
            plain,
            answer=run.output,
            error="" if status == "running" else run.error or "",
            approvals=self.asked,
            steps=run.steps,
            totals=run.usage,
            updated_at=run.finished_at or run.started_at,
        )

    def _status(self) -> HostedStatus:
        state = self.served.state
        if self.run is None:
            waits: HostedStatus = "failed" if state == "refused" else "queued"
            return "cancelled" if state == "cancelled" else waits
        if self.run.rewound:
            return "stopped"
        match self.run.status:
            case "paused" | "running" if self.asked:  # a call may be held while a human answers
                return "waiting"
            case "paused":
                return "running"  # all is answered: it goes on
            case "stopped" if state == "cancelled":
                return "cancelled"
            case "stopped" if state == "interrupted":
                return "running"
            case status:
                return status


def _latest(found: Report, entries: Sequence[EffectView]) -> str:
    return max(found.updated_at, *(entry.started_at for entry in entries))


def _value(connection: Connection, served: Served, found: Report) -> Json:
    """The answer of an agent whose answers have a type, or what is structured in a result."""
    if found.status != "completed":
        return None
    if served.order.tool is not None:
        return _structured(latest_effects(connection, served.run, _READ))
    spec: JsonObject = json.loads(_SPEC.one(connection, {"run": served.run}).spec)
    if spec["agent"].get("returns") is None:
        return None
    try:
        value: Json = json.loads(found.answer)
    except ValueError:  # the answer says that there is none of the type
        return None
    return value


_SPEC = Query(select(runs.c.spec).where(runs.c.id == bindparam("run")))


def _structured(entries: Sequence[EffectView]) -> Json:
    for entry in reversed(entries):
        if entry.kind == "tool" and isinstance(entry.result, dict):
            return entry.result.get("structured")
    return None
