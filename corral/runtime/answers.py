"""A human's answers, applied once: plain functions of a connection, each one transaction.

An approval is asked by the door, stored, and answered here from any process. Its entry in the
journal ends in the same transaction, so that there is no answer without its record.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, insert, select, update

from corral.errors import ConflictError, NotFoundError, UsageError
from corral.jsontypes import JsonObject, canonical
from corral.policies.rules import Rule
from corral.runtime.clock import milliseconds_between, now
from corral.runtime.entries import Text
from corral.runtime.lease import is_held
from corral.runtime.origin import require_made_here
from corral.runtime.tables import approvals, effects, runs, standing_rules, threads
from corral.runtime.views import ApprovalStatus
from corral.tools.contract import SEPARATOR, ToolSpec

LAST = "last"
"""Names the newest run, or the newest approval."""


def find_run(connection: Connection, run: str) -> str:
    """The full id of a run that is named by a unique beginning of it, or as ``last``."""
    if run == LAST:
        newest = select(runs.c.id).order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(1)
        run = connection.execute(newest).scalar() or run
    return _unique(connection, runs.c.id, run, "run")


def find_thread(connection: Connection, thread: str) -> str:
    """The full id of a thread that is named by a unique beginning of it, or as ``last``."""
    if thread == LAST:
        newest = select(threads.c.id).order_by(threads.c.updated_at.desc(), threads.c.id).limit(1)
        thread = connection.execute(newest).scalar() or thread
    return _unique(connection, threads.c.id, thread, "thread")


def approve(
    connection: Connection, approval: str, args: JsonObject | None, always: JsonObject | None
) -> Row[Any]:
    """Let a call be made. See ``Records.approve``."""
    row = _pending(connection, approval)
    if args is not None:
        _check_args(row, args)
    if always is not None:
        _refuse_if_in_doubt(row, "A rule for such calls")
        _add_rule(connection, row, always)
    return _answer(connection, row, _Answer("approved", args=args))


def deny(connection: Connection, approval: str, reason: str) -> Row[Any]:
    """Refuse a call. See ``Records.deny``."""
    return _answer(connection, _pending(connection, approval), _Answer("denied", reason=reason))


def give(connection: Connection, approval: str, result: str) -> Row[Any]:
    """Take ``result`` for what a call in doubt gave. See ``Records.give``."""
    row = _pending(connection, approval)
    if row.kind != "in_doubt":
        raise UsageError(
            f"The call of {row.tool} has not been made, so it has no result.",
            hint=f"Let it be made with `corral approve {row.id}`, or refuse it with `corral deny`.",
        )
    return _answer(connection, row, _Answer("given", result=result))


def cancel(connection: Connection, run: str) -> str:
    """Give a run up. See ``Records.cancel``."""
    found = find_run(connection, run)
    row = connection.execute(
        select(runs.c.status, runs.c.rewound, threads.c.lease)
        .join(threads, threads.c.id == runs.c.thread_id)
        .where(runs.c.id == found)
    ).one()
    if row.status not in ("paused", "running") or row.rewound is not None:
        how = "rewound" if row.rewound else row.status
        raise ConflictError(
            f"The run {found} is {how}; there is nothing to cancel.",
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
        _answer(connection, question, _Answer("denied", reason=reason))


def find_approval(connection: Connection, approval: str) -> Row[Any]:
    """The approval whose id is, or uniquely begins with, ``approval``; ``last``: the newest."""
    if approval == LAST:
        newest = select(approvals.c.id).order_by(approvals.c.created_at.desc()).limit(1)
        approval = connection.execute(newest).scalar() or approval
    found = _unique(connection, approvals.c.id, approval, "approval")
    return connection.execute(select(approvals).where(approvals.c.id == found)).one()


def _pending(connection: Connection, approval: str) -> Row[Any]:
    row = find_approval(connection, approval)
    origin = connection.execute(select(runs.c.origin).where(runs.c.id == row.run_id)).scalar()
    require_made_here(row.run_id, origin)
    if row.status == "withdrawn":
        raise ConflictError(
            f"The approval {row.id} belongs to the run {row.run_id}, which a rewind took back.",
            hint=f"`corral rewind {row.thread_id} --undo` brings it back.",
        )
    if row.status != "pending":
        raise ConflictError(
            f"The approval {row.id} was answered ({row.status}) at {row.answered_at}; "
            "that answer stands.",
            hint=f"Go on with `corral resume {row.run_id}`.",
        )
    return row


def _refuse_if_in_doubt(row: Row[Any], what: str) -> None:
    if row.kind == "in_doubt":
        raise UsageError(
            f"{what} cannot answer whether the call of {row.tool} happened.",
            hint="Retry it as it was, give its result, or fail it; nothing was answered.",
        )


def _check_args(row: Row[Any], args: JsonObject) -> None:
    # Its idempotency key stands for these arguments: a tool that knows the key ignores others.
    _refuse_if_in_doubt(row, "Other arguments")
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


@dataclass(frozen=True)
class _Answer:
    """What a human said."""

    status: ApprovalStatus
    args: JsonObject | None = None
    reason: str | None = None
    result: str | None = None

    def to_json(self) -> JsonObject:
        """The answer as the journal holds it."""
        said: JsonObject = {"status": self.status, "args": self.args, "reason": self.reason}
        return said if self.result is None else {**said, "result": self.result}


def _answer(connection: Connection, row: Row[Any], answer: _Answer) -> Row[Any]:
    """Store the answer, and end the question's entry in the journal with it."""
    answered_at = now()
    connection.execute(
        update(approvals)
        .where(approvals.c.id == row.id)
        .values(
            status=answer.status,
            answered_at=answered_at,
            answer_args=None if answer.args is None else canonical(answer.args),
            answer_reason=answer.reason,
            answer_result=answer.result,
        )
    )
    result = Text.of(answer.to_json())
    connection.execute(
        update(effects)
        .where(effects.c.run_id == row.run_id, effects.c.path == row.path)
        .values(
            status="finished",
            result=result.inline,
            result_blob=result.store(connection),
            duration_ms=milliseconds_between(row.created_at, answered_at),
        )
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
