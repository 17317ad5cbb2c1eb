"""The policy station: may this call be made, and if a human must say so, what did they say?

A question is a row before it is an interrupt. Once asked, the human's answer counts and policy
is not asked again for that call: a rule that changed in between cannot contradict the human.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from langgraph.types import interrupt
from sqlalchemy import Connection, Row, insert, select

from corral.errors import StorageError
from corral.jsontypes import JsonObject, canonical
from corral.policies.rules import Policy, Rule, ToolCall, always_rule, decide
from corral.runtime.clock import now
from corral.runtime.database import Database
from corral.runtime.effects import Effect, Guard, Outcome
from corral.runtime.entries import Entry
from corral.runtime.events import ApprovalRequested, Event
from corral.runtime.journal import Journal, in_doubt
from corral.runtime.listing import approval_view
from corral.runtime.tables import approvals


@dataclass(frozen=True)
class Settled:
    """The call is not made: it was refused, or its result was given by hand."""

    outcome: Outcome


@dataclass(frozen=True)
class _Question:
    """What a human is asked, and where in the run."""

    path: str
    kind: Literal["tool", "in_doubt"]
    reason: str


class Gate:
    """Policy and approvals of one execution of a run.

    ``standing`` are the rules that "always" has added in this workspace.
    """

    def __init__(
        self,
        journal: Journal,
        database: Database,
        rules: PolicyRules,
        emit: Callable[[Event], None],
    ) -> None:
        self._journal = journal
        self._database = database
        self._rules = rules
        self._emit = emit
        self._asked: dict[str, Row[Any]] = {}

    async def load(self) -> None:
        """Read what humans have been asked and have answered so far in this run."""
        query = select(approvals).where(approvals.c.run_id == self._journal.run)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        self._asked = {row.path: row for row in rows}

    async def clear(self, effect: Effect, path: str, entry: Entry | None) -> Effect | Settled:
        """The effect as it may be made, or its refusal. Interrupts the graph to ask a human."""
        if effect.guard is None:
            return effect
        cleared = await self._by_policy(effect, effect.guard, path)
        if isinstance(cleared, Settled) or entry is None:
            return cleared
        if effect.repeatable or not in_doubt(entry):
            return cleared
        # What was cut off is the call as a human may have edited it.
        return await self._after_a_crash(cleared, cleared.guard or effect.guard, entry)

    async def _by_policy(self, effect: Effect, guard: Guard, path: str) -> Effect | Settled:
        question = f"{path}/approval"
        if question not in self._asked:
            decision = decide(self._rules.policy, self._facts(guard), self._rules.standing)
            if decision.action == "allow":
                return effect
            if decision.action == "deny":
                return Settled(guard.refuse(f"Denied by policy: {decision.reason}"))
            await self._ask(_Question(question, "tool", decision.reason), guard)
        row = self._answered(question)
        if row.status == "denied":
            return Settled(guard.refuse(f"The user denied this call: {row.answer_reason}"))
        return guard.edit(json.loads(row.answer_args)) if row.answer_args else effect

    async def _after_a_crash(self, effect: Effect, guard: Guard, entry: Entry) -> Effect | Settled:
        question = f"{entry.path}/in_doubt/{entry.attempts}"
        if question not in self._asked:
            reason = (
                "Corral was stopped while this call was being made, so nobody knows whether it "
                "happened. Retry it, give the result by hand if you know it, or fail the call: "
                "the model is then told that it is unknown."
            )
            await self._ask(_Question(question, "in_doubt", reason), guard)
        row = self._answered(question)
        if row.answer_result is not None:
            return Settled(guard.give(row.answer_result))
        if row.status == "denied":
            text = f"It is unknown whether this call was made: {row.answer_reason}"
            return Settled(guard.refuse(text))
        return guard.edit(json.loads(row.answer_args)) if row.answer_args else effect

    def _facts(self, guard: Guard) -> ToolCall:
        spec = guard.spec
        return ToolCall(
            name=spec.name,
            args=guard.args,
            read_only=spec.trusted and spec.read_only,
            sandboxed=spec.server in self._rules.sandboxed,
            workspace=self._rules.workspace,
        )

    def _answered(self, question: str) -> Row[Any]:
        row = self._asked[question]
        if row.status == "pending":
            interrupt({"approval": row.id})
            raise StorageError(f"The approval {row.id} was passed without an answer.")
        return row

    async def _ask(self, question: _Question, guard: Guard) -> None:
        """Store the question and its entry in the journal together, then tell the listeners."""
        always = always_rule(self._facts(guard))
        row = {
            "id": f"a-{secrets.token_hex(4)}",
            "run_id": self._journal.run,
            "thread_id": self._rules.thread,
            "path": question.path,
            "kind": question.kind,
            "tool": guard.spec.name,
            "args": canonical(guard.args),
            "input_schema": canonical(guard.spec.input_schema),
            "reason": question.reason,
            "always": always.model_dump_json(exclude={"action", "reason"}, exclude_defaults=True),
            "status": "pending",
            "created_at": now(),
        }
        request: JsonObject = {"tool": guard.spec.name, "args": guard.args, "kind": question.kind}
        entry = self._journal.waiting(question.path, guard.spec.name, request)

        def work(connection: Connection) -> Row[Any]:
            connection.execute(insert(approvals), row)
            self._journal.insert(connection, entry)
            return connection.execute(select(approvals).where(approvals.c.id == row["id"])).one()

        stored = await self._database.write(work)
        self._asked[question.path] = stored
        self._emit(ApprovalRequested(approval_view(stored)))


@dataclass(frozen=True)
class PolicyRules:
    """What decisions in one run are based on.

    ``sandboxed`` names the servers that really run inside the sandbox.
    """

    policy: Policy
    standing: tuple[Rule, ...]
    sandboxed: frozenset[str]
    workspace: str
    thread: str
