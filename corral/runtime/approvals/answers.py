"""A human's answers, applied once: plain functions of a connection, each one transaction.

An approval is asked by the door, stored, and answered here from any process. Its entry in the
journal ends in the same transaction, so that there is no answer without its record.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from sqlalchemy import Column, ColumnElement, Connection, Row, bindparam, literal, select, update

from corral.errors import ConflictError, NotFoundError, UsageError
from corral.jsontypes import JsonObject, canonical
from corral.policies.rules import Action
from corral.runtime.approvals import standing
from corral.runtime.approvals.inputs import input_values
from corral.runtime.approvals.replies import (
    STOPPED_AT,
    Approved,
    Denied,
    Given,
    Reply,
    Stopped,
    always_of,
)
from corral.runtime.clock import milliseconds_between, now
from corral.runtime.effects import Spend
from corral.runtime.entries import Text
from corral.runtime.lease import is_held
from corral.runtime.origin import require_made_here
from corral.runtime.statements import Query
from corral.runtime.tables import approvals, effects, runs, threads
from corral.runtime.views import ApprovalStatus
from corral.tools.contract import SEPARATOR, ToolSpec

LAST = "last"
"""Names the newest run, or the newest approval."""


def find_run(connection: Connection, run: str) -> str:
    """The full id of a run that is named by a unique beginning of it, or as ``last``."""
    if _RUN.first(connection, {"run": run}):
        return run
    if run == LAST:
        newest = select(runs.c.id).order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(1)
        run = connection.execute(newest).scalar() or run
    return _unique(connection, runs.c.id, run, "run")


_RUN = Query(select(runs.c.id).where(runs.c.id == bindparam("run")))


def find_thread(connection: Connection, thread: str) -> str:
    """The full id of a thread that is named by a unique beginning of it, or as ``last``."""
    if thread == LAST:
        newest = select(threads.c.id).order_by(threads.c.updated_at.desc(), threads.c.id).limit(1)
        thread = connection.execute(newest).scalar() or thread
    return _unique(connection, threads.c.id, thread, "thread")


@dataclass(frozen=True)
class Signed:
    """Who answers (see ``views.Approval``), and what finding the answer has used."""

    by: str = "user"
    spend: Spend = field(default_factory=Spend)


USER = Signed("user")


@dataclass(frozen=True)
class Answered:
    """A question with its answer, and the ids of those that the same rule has answered with it."""

    row: Row[Any]
    alike: tuple[str, ...] = ()


def answer(connection: Connection, approval: str, reply: Reply, signed: Signed = USER) -> Answered:
    """Answer a question, once. See ``Records.answer``."""
    row = _pending(connection, approval)
    said = _said(row, reply)
    always = always_of(reply)
    if always is None:
        answered = _answer(connection, row, said, signed)
        if isinstance(reply, Stopped):
            _stop(connection, answered)
        return Answered(answered)
    action: Action = "allow" if isinstance(reply, Approved) else "deny"
    rule = standing.rule_for(connection, row, always, action)
    identity = standing.add(connection, row, always, rule)
    answered = _answer(connection, row, said, signed)
    # Arguments that were edited belong to the one call: the others are made as they are.
    alike = standing.answered_too(connection, answered, always.scope, rule)
    for other in alike:
        _answer(connection, other, replace(said, args=None), Signed(f"rule:{identity}"))
    return Answered(answered, tuple(other.id for other in alike))


def _said(row: Row[Any], reply: Reply) -> _Answer:
    match reply:
        case Approved(args) if row.kind == "input":
            return _Answer("approved", args=input_values(row, args))
        case Approved(args):
            edited = None if args is None else _edited(row, args)
            return _Answer("approved", args=edited)
        case Denied(reason):
            return _Answer("denied", reason=reason)
        case Given(result):
            _require_call(row)
            return _Answer("given", result=result)
        case Stopped(reason):
            return _Answer("stopped", reason=reason)
        case _:
            assert_never(reply)


def _require_call(row: Row[Any]) -> None:
    if row.kind not in ("tool", "in_doubt"):
        raise UsageError(
            f"The question {row.id} is not about a call's result: there is none to give.",
            hint=f"Answer it with `corral approve {row.id}` or `corral deny {row.id}`.",
        )


def _stop(connection: Connection, row: Row[Any]) -> None:
    """End the run of a question, now or, if a process still runs it, when that comes there."""
    close_questions(connection, approvals.c.run_id == row.run_id, "the run was stopped")
    lease = select(threads.c.lease).where(threads.c.id == row.thread_id)
    if is_held(connection.execute(lease).scalar()):
        return
    error = f"{STOPPED_AT} {row.tool}: {row.answer_reason}"
    connection.execute(
        update(runs)
        .where(runs.c.id == row.run_id, runs.c.status.in_(("paused", "running")))
        .values(status="stopped", error=error, finished_at=now())
    )


def spend_on(connection: Connection, approval: str, spend: Spend, advice: JsonObject) -> None:
    """Count what somebody used who did not answer after all, and keep what they said of it."""
    row = find_approval(connection, approval)
    context = json.loads(row.context or "{}")
    context["advice"] = [*context.get("advice", []), advice]
    connection.execute(
        update(approvals).where(approvals.c.id == row.id).values(context=canonical(context))
    )
    entry = (effects.c.run_id == row.run_id, effects.c.path == row.path)
    connection.execute(update(effects).where(*entry).values(_more(spend)))


def _more(spend: Spend) -> dict[str, Any]:
    """The columns of an entry with ``spend`` on top of what is there."""
    return {
        "input_tokens": effects.c.input_tokens + spend.input_tokens,
        "output_tokens": effects.c.output_tokens + spend.output_tokens,
        "cost_usd": effects.c.cost_usd + spend.cost_usd,
    }


def overdue(at: ColumnElement[str]) -> ColumnElement[bool]:
    """The questions that nobody has answered by then, of runs that can go on here."""
    made_here = select(runs.c.id).where(runs.c.id == approvals.c.run_id, runs.c.origin.is_(None))
    late = approvals.c.expires_at <= at
    return (approvals.c.status == "pending") & late & made_here.exists()


def expire(connection: Connection) -> list[Row[Any]]:
    """Deny what is overdue; the questions that were."""
    late = connection.execute(select(approvals).where(overdue(literal(now())))).all()
    signed = Signed("timeout")
    return [
        _answer(connection, row, _Answer("denied", reason=_nobody(row.expires_at)), signed)
        for row in late
    ]


def _nobody(expires_at: str) -> str:
    return f"nobody answered by {expires_at[:16].replace('T', ' ')} UTC"


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
        _close(connection, question, reason)


def close_questions_in(connection: Connection, thread: str, reason: str) -> None:
    """``close_questions`` of a thread, as each of its runs does when it begins."""
    for question in _PENDING.all(connection, {"thread": thread}):
        _close(connection, question, reason)


def _close(connection: Connection, question: Row[Any], reason: str) -> None:
    _answer(connection, question, _Answer("denied", reason=reason), Signed("corral"))


_PENDING = Query(
    select(approvals).where(
        approvals.c.thread_id == bindparam("thread"), approvals.c.status == "pending"
    )
)


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
            f"The approval {row.id} was answered ({row.status}) at {row.answered_at}"
            f"{_by(row)}; that answer stands.",
            hint=f"Go on with `corral resume {row.run_id}`.",
        )
    if row.expires_at is not None and row.expires_at <= now():
        raise ConflictError(
            f"The approval {row.id} was to be answered by {row.expires_at}, and counts as denied.",
            hint=f"Go on with `corral resume {row.run_id}`.",
        )
    return row


def _by(row: Row[Any]) -> str:
    return f" by {row.answered_by}" if row.answered_by else ""


def _edited(row: Row[Any], args: JsonObject) -> JsonObject:
    """The edited arguments, whole. Raises ``UsageError`` where they are not valid.

    Of a budget only the new limit can be edited, so the rest need not be said.
    """
    try:
        json.dumps(args, allow_nan=False)
    except ValueError as error:
        raise UsageError(
            "The edited arguments hold a number that is none (NaN) or has no end.",
            hint="Write numbers as JSON has them; nothing was answered.",
        ) from error
    whole = {**json.loads(row.args), **args} if row.kind == "budget" else args
    _check_args(row, whole)
    return whole


def _check_args(row: Row[Any], args: JsonObject) -> None:
    if row.kind == "loop":
        raise UsageError(
            "Whether an agent may go on as it does has no arguments to edit.",
            hint="Approve it as it is, or deny it with a reason; nothing was answered.",
        )
    if row.kind == "in_doubt":
        # Its idempotency key stands for its arguments: a tool that knows the key ignores others.
        raise UsageError(
            f"Other arguments cannot answer whether the call of {row.tool} happened.",
            hint="Retry it as it was, give its result, or fail it; nothing was answered.",
        )
    from corral.tools.schemas import validate_args  # heavy: jsonschema, only for edits

    server, _, tool = row.tool.partition(SEPARATOR)
    problem = validate_args(ToolSpec(server, tool, "", json.loads(row.input_schema)), args)
    if problem and row.kind == "budget":
        asked = json.loads(row.args)
        raise UsageError(
            f"The new limit is not above {asked['limit']}, or nothing that {asked['measure']} "
            "can be limited to.",
            hint=f"Give a higher one, such as {asked['raise_to']}; nothing was answered.",
        )
    if problem:
        raise UsageError(
            problem, hint="Nothing was answered; correct the arguments and approve again."
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


def _answer(connection: Connection, row: Row[Any], answer: _Answer, signed: Signed) -> Row[Any]:
    """Store the answer, and end the question's entry in the journal with it."""
    answered_at = now()
    connection.execute(
        update(approvals)
        .where(approvals.c.id == row.id)
        .values(
            status=answer.status,
            answered_at=answered_at,
            answered_by=signed.by,
            answer_args=None if answer.args is None else canonical(answer.args),
            answer_reason=answer.reason,
            answer_result=answer.result,
        )
    )
    result = Text.of(answer.to_json() | {"by": signed.by})
    connection.execute(
        update(effects)
        .where(effects.c.run_id == row.run_id, effects.c.path == row.path)
        .values(
            status="finished",
            result=result.inline,
            result_blob=result.store(connection),
            duration_ms=milliseconds_between(row.created_at, answered_at),
            **_more(signed.spend),
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
        gone = " A question goes when its run is removed." if what == "approval" else ""
        raise NotFoundError(f"There is no {what} {start!r}.", hint=f"See `corral {what}s`.{gone}")
    if len(found) > 1:
        raise NotFoundError(f"Several {what}s begin with {start!r}.", hint="Give more of the id.")
    return str(found[0])
