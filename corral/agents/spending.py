"""What a run may spend: the budgets of the settings, of its agents and of its caller, as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from corral.agents.spec import Agent
from corral.errors import CorralError
from corral.jsontypes import JsonObject
from corral.policies.budgets import AgentBudget, Budget
from corral.policies.prices import Price
from corral.runtime.budgets.prices import unknown_price
from corral.runtime.config import Settings
from corral.runtime.models.contract import ChatModel, Priced
from corral.runtime.runs import NewRun
from corral.runtime.stations.accounts import BudgetTerms


@dataclass(frozen=True)
class Spending:
    """Makes the terms of runs. ``model`` opens a model by its reference."""

    settings: Settings
    model: Callable[[str], ChatModel]

    def terms(self, agent: Agent, run: Budget | None) -> BudgetTerms:
        """What a run of this agent may spend, where its caller says ``run``.

        Raises ``ConfigError`` when money is limited and a model's price is not known.
        """
        budgets = self.settings.budgets
        budgets = budgets.model_copy(update={"run": replaced(budgets.run, run)})
        prices = _Prices(self, agent)
        terms = BudgetTerms(
            budgets=budgets,
            agent=_tree(agent),
            price=prices.find,
            max_output=self.settings.sampling.max_tokens,
        )
        limited = (*dict(budgets).values(), *(one.budget for one in agent.team()))
        if any(budget is not None and budget.usd is not None for budget in limited):
            for one in agent.team():
                ref = one.model or self.settings.model
                if prices.find(ref) is None:
                    raise unknown_price(ref)
        return terms


def replaced(budget: Budget, by: Budget | None) -> Budget:
    """A budget in which another one is said anew: what that does not name stays."""
    return budget if by is None else Budget.model_validate({**_said(budget), **_said(by)})


def _said(budget: Budget) -> JsonObject:
    return budget.model_dump(exclude_defaults=True)


def stored_budget(spec: JsonObject, by: Budget | None) -> Budget | None:
    """The budget of a stored run, in which its caller says something anew."""
    stored = spec.get("budget")
    return by if stored is None else replaced(Budget.model_validate(stored), by)


def noted(new: NewRun, budget: Budget | None, tags: tuple[str, ...]) -> NewRun:
    """A run with its caller's budget, so that a resume does not lose it, and its tags."""
    spec = new.spec if budget is None else {**new.spec, "budget": _said(budget)}
    return replace(new, spec=spec, tags=tags)


def _tree(agent: Agent) -> AgentBudget:
    team = tuple(_tree(one) for one in agent.agents if isinstance(one, Agent))
    return AgentBudget(agent.name, agent.budget or Budget(), team)


class _Prices:
    """The prices of models by their references, looked up when they are first needed."""

    def __init__(self, spending: Spending, agent: Agent) -> None:
        self._spending = spending
        self._own = {
            one.model: one.chat_model for one in agent.team() if one.chat_model is not None
        }
        self._found: dict[str, Price | None] = {}

    def find(self, ref: str) -> Price | None:
        if ref not in self._found:
            self._found[ref] = self._look_up(ref)
        return self._found[ref]

    def _look_up(self, ref: str) -> Price | None:
        given = self._spending.settings.prices.get(ref)
        if given is not None:
            return given
        try:
            model = self._own.get(ref) or self._spending.model(ref)
        except CorralError:
            return None  # it will be told when the model is asked
        return model.price if isinstance(model, Priced) else None
