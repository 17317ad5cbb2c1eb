"""How an order stands, read from the database: its run, its questions and its latest steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from corral.agents.hosting import steps
from corral.agents.hosting.contract import HostedStatus, Report
from corral.agents.hosting.orders import Served
from corral.jsontypes import Json, JsonObject
from corral.runtime.listing import approval_view, latest_effects, run_views
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
    ids = [served.run for served in orders]
    views = {
        view.run: view for view in run_views(connection, select(runs).where(runs.c.id.in_(ids)))
    }
    pending = (approvals.c.run_id.in_(ids), approvals.c.status == "pending")
    query = select(approvals).where(*pending).order_by(approvals.c.created_at, approvals.c.id)
    asked: dict[str, list[Approval]] = {}
    for row in connection.execute(query):
        asked.setdefault(row.run_id, []).append(approval_view(row))
    return [
        _Standing(served, views.get(served.run), tuple(asked.get(served.run, ()))).report()
        for served in orders
    ]


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
            case "paused":
                return "waiting" if self.asked else "running"  # all is answered: it goes on
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
    query = select(runs.c.spec).where(runs.c.id == served.run)
    spec: JsonObject = json.loads(connection.execute(query).scalar_one())
    if spec["agent"].get("returns") is None:
        return None
    try:
        value: Json = json.loads(found.answer)
    except ValueError:  # the answer says that there is none of the type
        return None
    return value


def _structured(entries: Sequence[EffectView]) -> Json:
    for entry in reversed(entries):
        if entry.kind == "tool" and isinstance(entry.result, dict):
            return entry.result.get("structured")
    return None
