"""What may be spent, and what was: tokens, money, time, calls and steps.

A budget is a set of limits. An account has a budget and is charged for what is done under it: an
agent's task, a run with its sub-agents, a thread, all of a user's runs, a day. ``ledger`` decides
whether something still fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from corral.policies.patterns.globs import compile_glob
from corral.policies.prices import NANO, nano

Amount = int | float
"""How much of a measure: tokens, calls, seconds, or nano-dollars."""

AccountKind = Literal["agent", "run", "thread", "user", "day"]

_Tokens = Field(default=None, ge=0)
_Seconds = Field(default=None, ge=0, allow_inf_nan=False)


class Budget(BaseModel):
    """Limits on what may be spent; ``None`` is no limit.

    ``tokens`` counts input and output together. ``wall_seconds`` is the clock's time since the
    beginning, waiting for a human included; ``active_seconds`` adds up how long model and tool
    calls took. ``tools`` limits the calls of tools by name (``SERVER__TOOL``; ``*`` is a
    wildcard). A step is a turn of an agent: the model calls that one node of its graph makes.

    ``at_limit`` says what happens then: ``ask`` pauses the run and asks whether to raise the
    limit, ``answer`` ends it with what it has found so far. At ``warn_at`` of a limit the model
    and the user are told.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_tokens: int | None = _Tokens
    output_tokens: int | None = _Tokens
    tokens: int | None = _Tokens
    usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    wall_seconds: float | None = _Seconds
    active_seconds: float | None = _Seconds
    model_calls: int | None = _Tokens
    tool_calls: int | None = _Tokens
    tools: dict[str, NonNegativeInt] = Field(default_factory=dict)
    steps: int | None = _Tokens
    at_limit: Literal["ask", "answer"] = "ask"
    warn_at: float = Field(default=0.8, gt=0, le=1)

    def limits(self) -> dict[str, Amount]:
        """The limits that there are, by measure: money in nano-dollars, ``tools.PATTERN``."""
        plain = {name: getattr(self, name) for name in MEASURES}
        found = {name: limit for name, limit in plain.items() if limit is not None}
        if self.usd is not None:
            found["usd"] = nano(self.usd)
        return found | {f"{_TOOLS}{pattern}": limit for pattern, limit in self.tools.items()}

    def tightened(self, other: Budget) -> Budget:
        """Both at once: of each limit the lower one, and of the ways to end the stricter one."""
        lower = {
            name: min(
                (one for one in (getattr(self, name), getattr(other, name)) if one is not None),
                default=None,
            )
            for name in MEASURES
        }
        tools = {
            pattern: min(b.tools[pattern] for b in (self, other) if pattern in b.tools)
            for pattern in (*self.tools, *other.tools)
        }
        ends = "answer" if "answer" in (self.at_limit, other.at_limit) else "ask"
        warn_at = min(self.warn_at, other.warn_at)
        return Budget.model_validate(
            {**lower, "tools": tools, "at_limit": ends, "warn_at": warn_at}
        )


MEASURES = (
    "input_tokens",
    "output_tokens",
    "tokens",
    "usd",
    "wall_seconds",
    "active_seconds",
    "model_calls",
    "tool_calls",
    "steps",
)
"""What a budget can limit, besides the calls of single tools."""

_TOOLS = "tools."

LIMIT_OF = "The limit of"
"""How the reason begins for which a run ends at a budget."""


@dataclass(frozen=True)
class Amounts:
    """What was used, or is set aside: of every measure how much. ``tools`` counts calls by name.

    ``cached_tokens`` of the input and ``reasoning_tokens`` of the output are told, and not limited.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0
    wall_seconds: float = 0.0
    active_seconds: float = 0.0
    model_calls: int = 0
    tool_calls: int = 0
    steps: int = 0
    tools: Mapping[str, int] = field(default_factory=dict)
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        """Both together."""
        names = (*self.tools, *other.tools)
        return Amounts(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.nano_usd + other.nano_usd,
            self.wall_seconds + other.wall_seconds,
            self.active_seconds + other.active_seconds,
            self.model_calls + other.model_calls,
            self.tool_calls + other.tool_calls,
            self.steps + other.steps,
            {name: self.tools.get(name, 0) + other.tools.get(name, 0) for name in names},
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    def of(self, measure: str) -> Amount:
        """How much of one measure, as ``Budget.limits`` names it."""
        if measure.startswith(_TOOLS):
            pattern = compile_glob(measure.removeprefix(_TOOLS))
            return sum(count for tool, count in self.tools.items() if pattern.matches(tool))
        if measure == "tokens":
            return self.input_tokens + self.output_tokens
        value: Amount = getattr(self, "nano_usd" if measure == "usd" else measure)
        return value


@dataclass(frozen=True)
class Account:
    """Who pays: ``holder`` tells accounts of one kind apart (a run, a thread, a date, a path).

    ``words`` name it to a human and to the model.
    """

    kind: AccountKind
    holder: str
    budget: Budget
    words: str

    @cached_property
    def key(self) -> str:
        """Unique among all accounts."""
        return f"{self.kind}:{self.holder}"

    @cached_property
    def limits(self) -> Mapping[str, Amount]:
        """See ``Budget.limits``."""
        return self.budget.limits()

    def raised(self, limits: Mapping[str, Amount]) -> Account:
        """The account with some of its limits (as ``Budget.limits`` has them) replaced."""
        budget = self.budget.model_copy(update=dict(_fields(self.budget, limits)))
        return Account(self.kind, self.holder, budget, self.words)


def _fields(budget: Budget, limits: Mapping[str, Amount]) -> Iterator[tuple[str, object]]:
    tools = dict(budget.tools)
    for measure, limit in limits.items():
        if measure.startswith(_TOOLS):
            tools[measure.removeprefix(_TOOLS)] = int(limit)
        else:
            yield measure, limit / NANO if measure == "usd" else limit
    yield "tools", tools


def in_words(measure: str) -> str:
    """A measure as a person says it."""
    if measure.startswith(_TOOLS):
        return f"calls of {measure.removeprefix(_TOOLS)}"
    return {"usd": "US dollars"}.get(measure, measure.replace("_", " "))


def shown(measure: str, amount: Amount) -> str:
    """An amount as a person reads it."""
    if measure == "usd":
        return f"${amount / NANO:.4f}".removesuffix("00")
    return f"{amount:,.1f} s" if measure.endswith("seconds") else f"{amount:,}"


def readable(measure: str, amount: Amount) -> Amount:
    """An amount in the unit that a person knows: money in US dollars."""
    return amount / NANO if measure == "usd" else amount


class Budgets(BaseModel):
    """Whose spending is limited, as configured under ``[budgets]``.

    ``run`` holds for each run with its sub-agents, ``thread`` for all runs of a conversation,
    ``user`` for all runs that the database knows of, ``day`` for what they do on one day (UTC).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: Budget = Budget()
    thread: Budget = Budget()
    user: Budget = Budget()
    day: Budget = Budget()

    def tightened(self, other: Budgets) -> Budgets:
        """Both at once, as ``Budget.tightened``."""
        return Budgets(
            run=self.run.tightened(other.run),
            thread=self.thread.tightened(other.thread),
            user=self.user.tightened(other.user),
            day=self.day.tightened(other.day),
        )


@dataclass(frozen=True)
class AgentBudget:
    """What one agent may spend on a task, and those that it may give tasks to."""

    name: str
    budget: Budget = field(default_factory=Budget)
    team: tuple[AgentBudget, ...] = ()

    def member(self, name: str) -> AgentBudget:
        """An agent of the team; one without a budget, if it is not known."""
        return next((one for one in self.team if one.name == name), AgentBudget(name))
