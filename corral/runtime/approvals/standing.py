"""Answers given ahead: the rules that "always" has added, where they hold and when they end.

Plain functions of a connection. A rule of a run or a thread goes with it (``removal.py``).
"""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, or_, select, true

from corral.errors import ConflictError, NotFoundError, UsageError
from corral.jsontypes import JsonObject
from corral.policies.conditions import describe
from corral.policies.facts import ToolCall
from corral.policies.matching import matches
from corral.policies.rules import Action, Rule
from corral.runtime.approvals.replies import Always, RuleScope
from corral.runtime.approvals.rule_text import parse_rule, rule_of, table_of
from corral.runtime.approvals.settings import parse_span
from corral.runtime.call_facts import call_of
from corral.runtime.clock import now
from corral.runtime.listing import approval_view
from corral.runtime.tables import approvals, runs, standing_rules, threads
from corral.runtime.views import Approval, StandingRule


def chosen_rule(approval: Approval, always: Always, action: Action, workspace: str) -> Rule:
    """The rule that an answer adds. Raises ``UsageError`` when it does not fit its own call."""
    if approval.kind != "tool" or not approval.always:
        raise UsageError(
            f"A rule for such calls cannot answer a question of the kind {approval.kind!r}.",
            hint="Answer it as it is; nothing was answered.",
        )
    rule = rule_of(_table(approval, always.rule), action)
    _require_fit(approval, rule, workspace)
    return rule


def _require_fit(approval: Approval, rule: Rule, workspace: str) -> None:
    """Refuse a rule that would not answer this very question."""
    call = call_of(approval.tool, approval.args, approval.context.get("facts", {}), workspace)
    if not matches(rule, call):
        raise UsageError(
            f"The rule does not fit the call that it answers: {describe(rule)}.",
            hint="Change the rule, or answer without it; nothing was answered.",
        )
    _require_effect(approval, rule, call)


def _require_effect(approval: Approval, rule: Rule, call: ToolCall) -> None:
    asked_by = approval.context.get("rule") or {}
    if asked_by.get("every_time"):
        raise UsageError(
            f"{asked_by.get('label') or 'A rule'} asks such calls every time: nobody can answer "
            "ahead.",
            hint="Answer without a rule; nothing was answered.",
        )
    read = call.label
    needed = {"untrusted": read.untrusted, "private": read.confidential}
    missing = [name for name, it_is in needed.items() if it_is and not getattr(rule, name)]
    if asked_by.get("doubted") and rule.action == "allow" and missing:
        words = " and ".join(f"{name} = true" for name in missing)
        raise UsageError(
            "This is asked because of what the model had read, and the rule says nothing of that.",
            hint=f"Write {words} in the rule if that is what you mean; nothing was answered.",
        )


def _table(approval: Approval, chosen: int | str | JsonObject | None) -> JsonObject:
    if chosen is None:
        return approval.always
    if isinstance(chosen, str):
        return parse_rule(chosen)
    if not isinstance(chosen, int):
        return chosen
    offered = approval.suggestions or ({"rule": approval.always},)
    if not 1 <= chosen <= len(offered):
        raise UsageError(
            f"There is no suggestion {chosen}: the approval {approval.id} has {len(offered)}.",
            hint=f"`corral approvals show {approval.id}` lists them.",
        )
    table: JsonObject = offered[chosen - 1]["rule"]
    return table


def rule_for(connection: Connection, question: Row[Any], always: Always, action: Action) -> Rule:
    """The rule that an answer to a stored question adds, see ``chosen_rule``."""
    workspace = _workspace(connection, question)
    return chosen_rule(approval_view(question), always, action, workspace)


def _workspace(connection: Connection, question: Row[Any]) -> str:
    query = select(threads.c.workspace).where(threads.c.id == question.thread_id)
    return str(connection.execute(query).scalar_one())


def add(connection: Connection, question: Row[Any], always: Always, rule: Rule) -> str:
    """Store a rule that came from a question; its id. Raises ``UsageError`` for its end."""
    workspace = _workspace(connection, question)
    where = {
        "run": question.run_id,
        "thread": question.thread_id,
        "project": workspace,
        "user": "",
    }
    if always.scope not in where:
        raise UsageError(
            f"There is no scope {always.scope!r}.", hint="Use run, thread, project or user."
        )
    identity = f"s-{secrets.token_hex(4)}"
    connection.execute(
        insert(standing_rules).values(
            id=identity,
            workspace="" if always.scope == "user" else workspace,
            rule=rule.model_dump_json(exclude_defaults=True),
            scope=always.scope,
            scope_id=where[always.scope],
            until=None if always.until is None else parse_end(always.until),
            approval=question.id,
            created_at=now(),
        )
    )
    return identity


def answered_too(
    connection: Connection, question: Row[Any], scope: RuleScope, rule: Rule
) -> list[Row[Any]]:
    """The other questions that wait where a new rule holds, and that it answers as well."""
    place = {
        "run": approvals.c.run_id == question.run_id,
        "thread": approvals.c.thread_id == question.thread_id,
        "project": threads.c.workspace == _workspace(connection, question),
        "user": true(),
    }
    in_time = or_(approvals.c.expires_at.is_(None), approvals.c.expires_at > now())
    waiting = (
        select(approvals, threads.c.workspace)
        .join(runs, runs.c.id == approvals.c.run_id)
        .join(threads, threads.c.id == approvals.c.thread_id)
        .where(place[scope], approvals.c.status == "pending", approvals.c.kind == "tool")
        .where(runs.c.origin.is_(None), in_time)
        .order_by(approvals.c.created_at, approvals.c.id)
    )
    return [row for row in connection.execute(waiting).all() if _answers(rule, row)]


def _answers(rule: Rule, row: Row[Any]) -> bool:
    try:
        _require_fit(approval_view(row), rule, row.workspace)
    except UsageError:
        return False
    return True


def parse_end(text: str) -> str:
    """When something ends, in UTC: from a date, a date and time, or a span from now.

    What has no zone is local time. Raises ``UsageError``.
    """
    try:
        end = datetime.now(UTC) + parse_span(text)
    except UsageError:
        end = _moment(text)
    except OverflowError as error:
        raise UsageError(f"{text!r} is too far away.", hint="Leave the end out.") from error
    if end <= datetime.now(UTC):
        raise UsageError(f"{text!r} has passed already.", hint="Give a time that is to come.")
    return end.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(text: str) -> datetime:
    """A date stands for its end."""
    whole = f"{text}T23:59:59" if len(text) == len("2026-12-31") else text
    try:
        return datetime.fromisoformat(whole).astimezone()
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is no time.",
            hint="Write how long (90m, 24h, 7d), a date (2026-12-31) or a date and time.",
        ) from error


def applying(
    connection: Connection, workspace: str, thread: str | None = None, run: str | None = None
) -> list[JsonObject]:
    """The rules that hold for a run in this place now, oldest first."""
    here = _in_scope(workspace, thread, run)
    query = select(standing_rules.c.rule).where(here, _not_over())
    rows = connection.execute(query.order_by(standing_rules.c.created_at, standing_rules.c.id))
    return [json.loads(row.rule) for row in rows]


def _in_scope(workspace: str, thread: str | None, run: str | None) -> ColumnElement[bool]:
    scope, scope_id = standing_rules.c.scope, standing_rules.c.scope_id
    project = and_(scope == "project", standing_rules.c.workspace == workspace)
    mine = [and_(scope == "thread", scope_id == thread), and_(scope == "run", scope_id == run)]
    return or_(scope == "user", project, *mine)


def _not_over() -> ColumnElement[bool]:
    return or_(standing_rules.c.until.is_(None), standing_rules.c.until > now())


def listed(connection: Connection, workspace: str | None = None) -> list[StandingRule]:
    """All rules, or those of a workspace and its threads and of the user, oldest first."""
    query = select(standing_rules, runs.c.status).outerjoin(
        runs, and_(standing_rules.c.scope == "run", runs.c.id == standing_rules.c.scope_id)
    )
    if workspace is not None:
        query = query.where(standing_rules.c.workspace.in_((workspace, "")))
    ordered = query.order_by(standing_rules.c.created_at, standing_rules.c.id)
    return [_view(row) for row in connection.execute(ordered)]


def _view(row: Row[Any]) -> StandingRule:
    rule = Rule.model_validate_json(row.rule)
    return StandingRule(
        id=row.id,
        rule=table_of(rule),
        words=describe(rule),
        scope=row.scope,
        scope_id=row.scope_id or (row.workspace if row.scope == "project" else ""),
        created_at=row.created_at,
        until=row.until,
        approval=row.approval,
        is_over=row.status == "completed" or (row.until is not None and row.until <= now()),
    )


def remove(connection: Connection, start: str) -> StandingRule:
    """Forget a rule that is named by its id or a unique beginning of it.

    Raises ``NotFoundError`` and ``ConflictError``.
    """
    found = [rule for rule in listed(connection) if start and rule.id.startswith(start)]
    exact = [rule for rule in found if rule.id == start] or found
    if not exact:
        raise NotFoundError(
            f"There is no standing rule {start!r}.", hint="See `corral approvals rules`."
        )
    if len(exact) > 1:
        raise ConflictError(f"Several rules begin with {start!r}.", hint="Give more of the id.")
    connection.execute(delete(standing_rules).where(standing_rules.c.id == exact[0].id))
    return exact[0]
