"""Who pays for an effect: the agents around it, the run, its thread, its user and the day."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from corral.jsontypes import JsonObject
from corral.policies.budgets import Account, AgentBudget, Amount, Budget, Budgets, readable
from corral.policies.ledger import Balance
from corral.policies.limits import RunLimits
from corral.policies.prices import FREE, Price
from corral.runtime.clock import now
from corral.runtime.journal import Journal
from corral.runtime.paths import scopes

Raised = Mapping[str, Mapping[str, Amount]]
"""The limits that humans have raised: by account's key and by measure."""


@dataclass(frozen=True)
class BudgetTerms:
    """What a run may spend.

    ``price`` tells a model's by its name, ``None`` where nobody knows it; ``answers`` how many one
    request to it may lead to. ``max_output`` is the longest that the settings want, in tokens.
    """

    budgets: Budgets = field(default_factory=Budgets)
    agent: AgentBudget = field(default_factory=lambda: AgentBudget(""))
    price: Callable[[str], Price | None] = lambda _model: FREE
    answers: Callable[[str], int] = lambda _model: 1
    max_output: int | None = None


@dataclass(frozen=True)
class AgentScope:
    """An agent at work: its graph's path, with ``/`` (empty: the run's own), and its names."""

    path: str
    names: tuple[str, ...]
    budget: Budget


class Accounts:
    """The accounts of one run's effects."""

    def __init__(
        self, journal: Journal, thread: str, terms: BudgetTerms, limits: RunLimits
    ) -> None:
        self.terms = terms
        self._journal = journal
        self._thread = thread
        self._limits = limits
        self._run = AgentScope("", (terms.agent.name,), terms.agent.budget)
        budgets = terms.budgets
        self._shares = any(one.limits() for one in (budgets.thread, budgets.user, budgets.day))
        self._own: dict[str, tuple[Account, ...]] = {}
        self._shared: dict[str, tuple[Account, ...]] = {}

    def scopes(self, path: str) -> list[AgentScope]:
        """The agents around an effect, the run's own first."""
        agent, names = self.terms.agent, self._run.names
        found = [self._run]
        for around in scopes(path):
            entry = self._journal.find(around[:-1])
            if entry is not None and entry.kind == "agent":
                agent = agent.member(entry.name)
                names = (*names, entry.name)
                found.append(AgentScope(around, names, agent.budget))
        return found

    def own(self, scopes: list[AgentScope], raised: Raised) -> list[Account]:
        """The accounts that no other run has: of the agents, and of the run."""
        at = scopes[-1].path
        if at not in self._own:
            self._own[at] = _limited(self._of_run(scopes))
        return _as_raised(self._own[at], raised)

    def _of_run(self, scopes: list[AgentScope]) -> tuple[Account, ...]:
        run, budgets = self._journal.run, self.terms.budgets
        agents = (
            Account(
                "agent", f"{run}:{one.path}", one.budget, f"the budget of the agent {one.names[-1]}"
            )
            for one in scopes
        )
        tokens = Budget(tokens=self._limits.max_tokens, at_limit="answer")
        most = Account("run", f"{run}:max_tokens", tokens, "the run's tokens (max_tokens)")
        whole = Account("run", run, budgets.run, "the run's budget")
        return (*agents, most, whole)

    def shared(self, raised: Raised) -> list[Account]:
        """The accounts that the run has in common with others."""
        if not self._shares:
            return []
        today = now()[:10]
        if today not in self._shared:
            budgets = self.terms.budgets
            accounts = (
                Account("thread", self._thread, budgets.thread, "the thread's budget"),
                Account("user", "", budgets.user, "the user's budget"),
                Account("day", today, budgets.day, "today's budget"),
            )
            self._shared = {today: _limited(accounts)}
        return _as_raised(self._shared[today], raised)


def in_json(balances: Iterable[Balance]) -> list[JsonObject]:
    """Of each limit whose it is, in words too, and how far it is used; money in US dollars."""
    return [
        {
            "account": balance.account.kind,
            "words": balance.account.words,
            "measure": measure,
            "used": readable(measure, balance.spent.of(measure)),
            "limit": readable(measure, limit),
        }
        for balance in balances
        for measure, limit in balance.account.budget.limits().items()
    ]


def _limited(accounts: Iterable[Account]) -> tuple[Account, ...]:
    return tuple(one for one in accounts if one.limits)


def _as_raised(accounts: Iterable[Account], raised: Raised) -> list[Account]:
    return [one.raised(raised[one.key]) if one.key in raised else one for one in accounts]
