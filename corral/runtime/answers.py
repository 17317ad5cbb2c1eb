"""A human's answers, applied once: plain functions of a connection, each one transaction.

An approval is asked by the door, stored, and answered here from any process. Its entry in the
journal ends in the same transaction, so that there is no answer without its record.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, insert, select, update

from corral.errors import ConflictError, NotFoundError, UsageError
from corral.jsontypes import JsonObject, canonical
from corral.policies.rules import Rule
from corral.runtime.clock import now
from corral.runtime.lease import is_held
from corral.runtime.tables import approvals, effects, runs, standing_rules, threads
from corral.tools.contract import SEPARATOR, ToolSpec

LAST = "last"
"""Names the newest run, or the newest approval."""


def find_run(connection: Connection, run: str) -> str:
    """The full id of a run that is named by a unique beginning of it, or as ``last``."""
    if run == LAST:
        newest = select(runs.c.id).order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(1)
        run = connection.execute(newest).scalar() or run
    return _unique(connection, runs.c.id, run, "run")


def approve(
    connection: Connection, approval: str, args: JsonObject | None, always: JsonObject | None
) -> Row[Any]:
    """Let a call be made. See ``Records.approve``."""
    row = _pending(connection, approval)
    if args is not None:
        _check_args(row, args)
    if always is not None:
        _add_rule(connection, row, always)
    return _answer(connection, row, "approved", args=args)


def deny(connection: Connection, approval: str, reason: str) -> Row[Any]:
    """Refuse a call. See ``Records.deny``."""
    return _answer(connection, _pending(connection, approval), "denied", reason=reason)


def cancel(connection: Connection, run: str) -> str:
    """Give a run up. See ``Records.cancel``."""
    found = find_run(connection, run)
    row = connection.execute(
        select(runs.c.status, threads.c.lease)
        .join(threads, threads.c.id == runs.c.thread_id)
        .where(runs.c.id == found)
    ).one()
    if row.status not in ("paused", "running"):
        raise ConflictError(
            f"The run {found} is {row.status}; there is nothing to cancel.",
            hint="`corral runs` lists the runs; those that are paused or running can be cancelled.",
        )
    if is_held(row.lease):
        raise ConflictError(
            f"The run {found} is being run by another process.", hint="Stop it there with Ctrl-C."
        )
    close_questions(connection, approvals.c.run_id == found, "the run was cancelled")
    connection.execute(
        update(runs)
        .where(runs.c.id == found)
        .values(status="stopped", error="cancelled by the user", finished_at=now())
    )
    return found


def close_questions(connection: Connection, of: ColumnElement[bool], reason: str) -> None:
    """Deny the questions that nobody will ever need an answer to."""
    pending = select(approvals).where(of, approvals.c.status == "pending")
    for question in connection.execute(pending).all():
        _answer(connection, question, "denied", reason=reason)


def find_approval(connection: Connection, approval: str) -> Row[Any]:
    """The approval whose id is, or uniquely begins with, ``approval``; ``last``: the newest."""
    if approval == LAST:
        newest = select(approvals.c.id).order_by(approvals.c.created_at.desc()).limit(1)
        approval = connection.execute(newest).scalar() or approval
    found = _unique(connection, approvals.c.id, approval, "approval")
    return connection.execute(select(approvals).where(approvals.c.id == found)).one()


def _pending(connection: Connection, approval: str) -> Row[Any]:
    row = find_approval(connection, approval)
    if row.status != "pending":
        raise ConflictError(
            f"The approval {row.id} was {row.status} at {row.answered_at}; that answer stands.",
            hint=f"Go on with `corral resume {row.run_id}`.",
        )
    return row


def _check_args(row: Row[Any], args: JsonObject) -> None:
    from corral.tools.schemas import validate_args  # heavy: jsonschema, only for edits

    server, _, tool = row.tool.partition(SEPARATOR)
    problem = validate_args(ToolSpec(server, tool, "", json.loads(row.input_schema)), args)
    if problem:
        raise UsageError(
            problem, hint="Nothing was answered; correct the arguments and approve again."
        )


def _add_rule(connection: Connection, row: Row[Any], always: JsonObject) -> None:
    try:
        rule = Rule.model_validate({**always, "action": "allow"})
    except ValueError as error:
        raise UsageError(f"The rule for `always` cannot be understood: {error}") from error
    workspace = select(threads.c.workspace).where(threads.c.id == row.thread_id).scalar_subquery()
    connection.execute(
        insert(standing_rules).values(
            id=secrets.token_hex(6),
            workspace=workspace,
            rule=rule.model_dump_json(),
            created_at=now(),
        )
    )


def _answer(
    connection: Connection,
    row: Row[Any],
    status: str,
    *,
    args: JsonObject | None = None,
    reason: str | None = None,
) -> Row[Any]:
    """Store the answer, and end the question's entry in the journal with it."""
    connection.execute(
        update(approvals)
        .where(approvals.c.id == row.id)
        .values(
            status=status,
            answered_at=now(),
            answer_args=None if args is None else canonical(args),
            answer_reason=reason,
        )
    )
    result = {"status": status, "args": args, "reason": reason}
    connection.execute(
        update(effects)
        .where(effects.c.run_id == row.run_id, effects.c.path == row.path)
        .values(status="finished", result=canonical(result))
    )
    return connection.execute(select(approvals).where(approvals.c.id == row.id)).one()


def _unique(connection: Connection, column: Column[Any], start: str, what: str) -> str:
    """The one id that is ``start`` or begins with it."""
    query = select(column).where(column.startswith(start, autoescape=True)).limit(3)
    found = [row[0] for row in connection.execute(query)] if start else []
    if start in found:
        return start
    if not found:
        raise NotFoundError(f"There is no {what} {start!r}.", hint=f"See `corral {what}s`.")
    if len(found) > 1:
        raise NotFoundError(f"Several {what}s begin with {start!r}.", hint="Give more of the id.")
    return str(found[0])
