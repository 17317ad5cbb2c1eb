"""Answers given ahead: the rules that "always" has added, where they hold and when they end.

Plain functions of a connection. A rule of a run or a thread goes with it (``removal.py``).
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    insert,
    or_,
    select,
    true,
)

from corral.errors import ConflictError, NotFoundError, UsageError
from corral.jsontypes import JsonObject
from corral.policies.conditions import describe
from corral.policies.rules import Action, Rule
from corral.runtime.approvals.chosen import chosen_rule, parse_end, require_fit
from corral.runtime.approvals.replies import Always, RuleScope
from corral.runtime.approvals.rule_text import table_of
from corral.runtime.clock import now
from corral.runtime.listing import approval_view
from corral.runtime.statements import Query
from corral.runtime.tables import approvals, runs, standing_rules, threads
from corral.runtime.views import StandingRule


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
        require_fit(approval_view(row), rule, row.workspace)
    except UsageError:
        return False
    return True


def applying(
    connection: Connection, workspace: str, thread: str | None = None, run: str | None = None
) -> list[JsonObject]:
    """The rules that hold for a run in this place now, oldest first."""
    here = {"workspace": workspace, "thread": thread, "run": run, "now": now()}
    return [json.loads(row.rule) for row in _APPLYING.all(connection, here)]


def _in_scope() -> ColumnElement[bool]:
    scope, scope_id = standing_rules.c.scope, standing_rules.c.scope_id
    project = and_(scope == "project", standing_rules.c.workspace == bindparam("workspace"))
    mine = [and_(scope == name, scope_id == bindparam(name)) for name in ("thread", "run")]
    return or_(scope == "user", project, *mine)


_APPLYING = Query(
    select(standing_rules.c.rule)
    .where(
        _in_scope(),
        or_(standing_rules.c.until.is_(None), standing_rules.c.until > bindparam("now")),
    )
    .order_by(standing_rules.c.created_at, standing_rules.c.id)
)


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
