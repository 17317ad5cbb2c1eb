"""What becomes of questions that nobody answers: they are asked of the next, and denied at last.

Nobody waits for it. Whoever looks at questions next (a resume, a listing, a run that waits) applies
what is due by then, so what is seen is never older than the clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import structlog
from sqlalchemy import Connection, bindparam, select, update

from corral.runtime.approvals.answers import expire, overdue
from corral.runtime.approvals.settings import ApprovalSettings
from corral.runtime.clock import ago, now
from corral.runtime.database import Database
from corral.runtime.listing import approval_view
from corral.runtime.statements import Query
from corral.runtime.tables import approvals, runs
from corral.runtime.views import Approval

log = structlog.get_logger()

NOTIFY_SECONDS = 10.0
"""How long the command that tells somebody may take."""


def expiry(settings: ApprovalSettings) -> str | None:
    """When a question that is asked now counts as denied."""
    return None if settings.patience is None else ago(-settings.patience)


async def catch_up(database: Database, settings: ApprovalSettings) -> None:
    """Deny the questions that are overdue, and ask others of the next in the list."""
    if await database.glance(lambda connection: _is_due(connection, settings)):
        escalated = await database.write(lambda connection: _apply(connection, settings))
        await asyncio.gather(*(tell(settings, "escalated", approval) for approval in escalated))


def _is_due(connection: Connection, settings: ApprovalSettings) -> bool:
    late = _LATE.first(connection, {"now": now()})
    return late is not None or bool(_next_turns(connection, settings))


_LATE = Query(select(approvals.c.id).where(overdue(bindparam("now"))).limit(1))


def _apply(connection: Connection, settings: ApprovalSettings) -> list[Approval]:
    expire(connection)
    turns = _next_turns(connection, settings)
    for row, name in turns:
        mine = (approvals.c.id == row.id, approvals.c.status == "pending")
        values = {"asked_of": name, "escalated_at": now()}
        connection.execute(update(approvals).where(*mine).values(values))
    ids = [row.id for row, _ in turns]
    found = connection.execute(select(approvals).where(approvals.c.id.in_(ids)))
    return [approval_view(row) for row in found]


def _next_turns(connection: Connection, settings: ApprovalSettings) -> list[tuple[Any, str]]:
    """The open questions that it is somebody else's turn to answer, with their names."""
    turn = settings.turn
    if turn is None:
        return []
    made_here = select(runs.c.id).where(runs.c.id == approvals.c.run_id, runs.c.origin.is_(None))
    columns = (approvals.c.id, approvals.c.created_at, approvals.c.asked_of)
    query = select(*columns).where(
        approvals.c.status == "pending", approvals.c.created_at <= ago(turn), made_here.exists()
    )
    whose = ((row, _whose(row.created_at, turn, settings)) for row in connection.execute(query))
    return [(row, name) for row, name in whose if name != row.asked_of]


def _whose(created_at: str, turn: timedelta, settings: ApprovalSettings) -> str:
    """Whose turn it is now: it depends on the clock alone, not on who has looked before."""
    waited = datetime.now(UTC) - datetime.fromisoformat(created_at)
    passed = int(waited / turn) - 1
    return settings.escalate_to[min(max(passed, 0), len(settings.escalate_to) - 1)]


async def tell(
    settings: ApprovalSettings, event: Literal["asked", "escalated"], approval: Approval
) -> None:
    """Give a question to the command that tells somebody of it. What goes wrong there is logged."""
    if not settings.notify:
        return
    text = json.dumps({"event": event, **approval.to_json()})
    try:
        async with asyncio.timeout(NOTIFY_SECONDS):
            await _run(settings.notify, text)
    except (OSError, ValueError, TimeoutError) as error:
        log.warning("notify_failed", command=settings.notify[0], error=repr(error))


async def _run(command: Sequence[str], text: str) -> None:
    nowhere = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=nowhere,
        stderr=nowhere,
        cwd=Path.home(),  # never the workspace, where an agent could have put a command
        start_new_session=True,
    )
    try:
        await process.communicate(text.encode())
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
