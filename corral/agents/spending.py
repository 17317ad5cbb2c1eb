"""What a run may spend: the budgets of the settings, of its agents and of its caller, as one.

What a caller says of a run's budget and limits is stored with the run, so that a resume and a fork
do not lose it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from corral.agents.options import RunOptions
from corral.agents.patience import replaced_limits
from corral.agents.spec import Agent
from corral.errors import CorralError, UsageError
from corral.jsontypes import JsonObject
from corral.policies.budgets import AgentBudget, Budget
from corral.policies.limits import RunLimits
from corral.policies.prices import Price
from corral.runtime.attachments import entry_of
from corral.runtime.budgets.prices import unknown_price
from corral.runtime.config import Settings
from corral.runtime.models.combined.usage import answers_of
from corral.runtime.models.contract import ChatModel, Priced
from corral.runtime.runs import NewRun
from corral.runtime.stations.accounts import BudgetTerms


@dataclass(frozen=True)
class Spending:
    """Makes the terms of runs. ``model`` opens a model by its reference."""

    settings: Settings
    model: Callable[[str], ChatModel]

    def price(self, ref: str, model: ChatModel) -> Price | None:
        """What a model costs: as it says itself, or as the settings say; ``None``: nobody knows.

        A model that was opened by its reference says what the settings say, if they say anything.
        """
        stated = model.price if isinstance(model, Priced) else None
        if stated is None or stated.is_free:
            return self.settings.prices.get(ref, stated)
        return stated

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
            answers=prices.answers,
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


def as_begun(spec: JsonObject, options: RunOptions) -> RunOptions:
    """The options with a stored run's budget and limits, in which they say something anew."""
    budget, limits = options.budget, options.limits
    if "budget" in spec:
        budget = replaced(Budget.model_validate(spec["budget"]), budget)
    if "limits" in spec:
        limits = replaced_limits(RunLimits.model_validate(spec["limits"]), limits)
    return replace(options, budget=budget, limits=limits)


def noted(new: NewRun, options: RunOptions) -> NewRun:
    """A run with its caller's budget, limits, tags and files. Raises ``UsageError``."""
    if new.left is not None and options.attachments:
        raise UsageError(
            "Files can be attached to a new run only; a fork has those of its parent.",
            hint="Go on in its thread with another prompt, and attach them there.",
        )
    spec = dict(new.spec)
    if options.budget is not None:
        spec["budget"] = _said(options.budget)
    if options.limits is not None:
        spec["limits"] = options.limits.model_dump(exclude_unset=True)
    return replace(new, spec=spec, tags=options.tags, attached=entry_of(options.attachments))


def _tree(agent: Agent) -> AgentBudget:
    team = tuple(map(_tree, agent.members))
    return AgentBudget(agent.name, agent.budget or Budget(), team)


class _Prices:
    """The prices of models by their references, looked up when they are first needed."""

    def __init__(self, spending: Spending, agent: Agent) -> None:
        self._spending = spending
        self._own = {
            one.model: one.chat_model for one in agent.team() if one.chat_model is not None
        }
        self._found: dict[str, Price | None] = {}
        self._answers: dict[str, int] = {}

    def find(self, ref: str) -> Price | None:
        if ref not in self._found:
            self._found[ref] = self._look_up(ref)
        return self._found[ref]

    def answers(self, ref: str) -> int:
        if ref not in self._answers:
            model = self._model(ref)
            if model is None:
                return 1
            self._answers[ref] = answers_of(model)
        return self._answers[ref]

    def _look_up(self, ref: str) -> Price | None:
        model = self._model(ref)
        return None if model is None else self._spending.price(ref, model)

    def _model(self, ref: str) -> ChatModel | None:
        try:
            return self._own.get(ref) or self._spending.model(ref)
        except CorralError:
            return None  # it will be told when the model is asked
