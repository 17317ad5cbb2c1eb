"""The budgets of a run that waits: what is asked about it meanwhile, it pays for.

An approver that is a model is asked while nobody executes the run, so its call does not come
through the door. It is reserved and settled in the same accounts all the same; at their limit it is
not made, and a human decides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from corral.errors import ConfigError
from corral.memory.tokens import estimate_tokens
from corral.policies.budgets import LIMIT_OF, in_words
from corral.policies.ledger import Breach
from corral.policies.limits import RunLimits
from corral.policies.redaction import Redactor
from corral.runtime.budgets.shared import SharedAccounts
from corral.runtime.database import Database
from corral.runtime.effects import Attempt, Effect, Outcome
from corral.runtime.journal import Journal
from corral.runtime.models.contract import ModelRequest
from corral.runtime.runs import RunRow
from corral.runtime.stations.accounts import Accounts, BudgetTerms
from corral.runtime.stations.at_limit import AtLimit
from corral.runtime.stations.budget import Grant, Meter
from corral.runtime.stations.questions import Asking, Questions
from corral.runtime.tool_tokens import definition_tokens


@dataclass(frozen=True)
class Beside:
    """A run that waits, and on what terms it spends."""

    database: Database
    run: RunRow
    budgets: BudgetTerms
    limits: RunLimits
    redactor: Redactor

    @asynccontextmanager
    async def reserved(
        self, model: str, path: str, request: ModelRequest
    ) -> AsyncIterator[Grant | str]:
        """What a model's call about ``path`` may use, kept free in the body; or why nothing."""
        meter = await self._meter()
        try:
            found = await meter.offer(_call(model, request), path)
        except ConfigError as unknown:
            yield unknown.message
            return
        try:
            yield _used_up(found) if isinstance(found, Breach) else found
        finally:
            await meter.release(path)

    async def _meter(self) -> Meter:
        run = self.run
        journal = await Journal.load(self.database, run.id)
        asking = Asking(run.thread, run.agent, run.prompt, self.limits, self.redactor)
        questions = Questions(journal, self.database, asking, lambda _event: None)
        meter = Meter(
            journal,
            Accounts(journal, run.thread, self.budgets, self.limits),
            SharedAccounts(self.database, run.id, run.thread, beside=True),
            AtLimit(journal, self.database, questions),
            lambda _event: None,
        )
        await meter.load()
        return meter


def _call(model: str, request: ModelRequest) -> Effect:
    """A call of a model as the budget station knows it."""

    async def execute(_attempt: Attempt) -> Outcome:
        raise AssertionError("this call is made elsewhere")

    return Effect(
        kind="model",
        name=model,
        request={"sampling": {"max_tokens": request.sampling.max_tokens}},
        execute=execute,
        estimate=lambda: estimate_tokens(request.messages) + definition_tokens(request.tools),
    )


def _used_up(breach: Breach) -> str:
    return f"{LIMIT_OF} {breach.account.words} is reached ({in_words(breach.measure)})"
