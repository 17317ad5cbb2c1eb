"""An effect: anything that a run cannot recompute, described before it happens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from corral.jsontypes import JsonObject
from corral.policies.checks import Check
from corral.sandbox.network.traffic import Watch
from corral.tools.contract import ToolSpec
from corral.tools.inquiry import Inquiry, Reply, Round

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

EffectKind = Literal[
    "prepare", "model", "tool", "retrieval", "approval", "agent", "value", "connection"
]

TOOLS = "tools"
"""The name of a retrieval that chose tools; any other found what is remembered."""


@dataclass(frozen=True)
class Spend:
    """What an effect used: tokens, and money in US dollars; of a model call also how it went.

    ``cached_tokens`` and ``cache_write_tokens`` are part of the input (a provider's cache, or the
    local engine's, gave or took them), ``reasoning_tokens`` of the output. ``first_token_ms`` is
    how long the first piece of the answer took, ``generation_ms`` how long the rest of it.
    ``answered_by`` is the model that answered, where that is not the one that was asked.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    first_token_ms: float | None = None
    generation_ms: float | None = None
    answered_by: str = ""

    @property
    def is_nothing(self) -> bool:
        """Whether no tokens and no money were used."""
        return not (self.input_tokens or self.output_tokens or self.cost_usd)

    def after(self, earlier: Spend) -> Spend:
        """This, and what earlier tries at the same effect have used."""
        if earlier == NOTHING:
            return self
        sums = {name: getattr(self, name) + getattr(earlier, name) for name in _SUMMED}
        return replace(self, **sums)


@dataclass(frozen=True)
class Outcome:
    """What an effect gave: JSON that the graph goes on with, and what it used."""

    value: JsonObject
    spend: Spend = field(default_factory=Spend)


_SUMMED = (
    *("input_tokens", "output_tokens", "cost_usd"),
    *("cached_tokens", "cache_write_tokens", "reasoning_tokens"),
)
"""What of a ``Spend`` adds up."""


NOTHING = Spend()
"""What an effect has used that cost nothing."""


def _unheard(_spent: Callable[[], Spend]) -> None:
    """For an effect that nobody counts while it is made."""


async def _nobody(_spec: ToolSpec, _inquiry: Inquiry, _seconds: float) -> Reply:
    return Reply("cancel")


def _nowhere() -> str:
    raise AssertionError("nothing is made about an effect that is not made itself")


@dataclass(frozen=True)
class Attempt:
    """One try at an effect.

    ``key`` is the same on every try, ``path`` is where in the graph, ``turn`` counts the model
    calls that the run already holds. A model may give at most ``max_output_tokens``, and is told
    the ``notes``: neither is part of what identifies the effect. What is said ``aloud`` reaches the
    user while it is made, which may take ``seconds``. ``place`` gives the path for the next effect
    that is about this one, and ``watch`` is told of the connections that are made for it.
    ``report`` is given what says how much was used so far: that counts when it is broken off.
    ``user`` is asked what a tool's server asks meanwhile, and has so many seconds to answer.
    """

    key: str
    path: str
    turn: int
    max_output_tokens: int | None = None
    notes: tuple[str, ...] = ()
    aloud: bool = True
    seconds: float | None = None
    place: Callable[[], str] = _nowhere
    watch: Watch | None = None
    report: Callable[[Callable[[], Spend]], None] = _unheard
    user: Callable[[ToolSpec, Inquiry, float], Awaitable[Reply]] = _nobody


@dataclass(frozen=True)
class Continued:
    """A call that goes on once the user has answered what its server asked in the round before.

    ``answered`` makes the effect with the replies in it.
    """

    round: Round
    answered: Callable[[Mapping[str, Reply]], Effect]


@dataclass(frozen=True)
class Guard:
    """What policy must know of a tool call, and how to go on when it is answered by a human.

    ``refuse`` and ``give`` make the outcome of a refusal, and of a result given by hand.
    ``call_id`` is the id that the call has in the model's message. One that is ``continued`` was
    let through before: policy is not asked again, the user is.
    """

    spec: ToolSpec
    args: JsonObject
    refuse: Callable[[str], Outcome]
    give: Callable[[str], Outcome]
    edit: Callable[[JsonObject], Effect]
    call_id: str = ""
    continued: Continued | None = None


@dataclass(frozen=True)
class Bound:
    """A check of an agent's; ``ask`` is how its judge is asked about a text, if it has one."""

    check: Check
    ask: Callable[[str], Effect] | None = None


@dataclass(frozen=True)
class Effect:
    """One effect, not yet made.

    ``request`` identifies it and is stored (redacted); ``transcript`` holds the messages of a
    model call, which are stored as what was added since the call before. ``repeatable`` says
    that it may be made again when nobody knows whether it happened. ``once`` names an effect
    that a graph makes a single time, wherever in it it is asked for first. ``pure`` says that
    all it does it does through effects of its own, as a sub-agent: a replay makes it again.
    ``closed``: what it gives is of a type that no instruction fits into. ``estimate`` says how many
    tokens of input a model call takes, rather too many than too few.
    ``checks`` look at what goes in and comes out; ``again`` is the effect of asking a model once
    more, given the text that was refused and why. ``aloud``: what it says is for the user.
    """

    kind: EffectKind
    name: str
    request: JsonObject
    execute: Callable[[Attempt], Awaitable[Outcome]]
    transcript: Sequence[BaseMessage] = ()
    repeatable: bool = True
    guard: Guard | None = None
    once: str | None = None
    pure: bool = False
    closed: bool = False
    estimate: Callable[[], int] | None = None
    checks: tuple[Bound, ...] = ()
    again: Callable[[str, str], Effect] | None = None
    aloud: bool = True


@dataclass(frozen=True)
class Settled:
    """An effect that is not made: it was refused, or its result was given by hand.

    ``was_made``: it is one that was cut off, and its result is what it gave, told by a human.
    """

    outcome: Outcome
    was_made: bool = False
