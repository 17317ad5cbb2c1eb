"""How far a run may go: steps, tokens and repetitions."""

from __future__ import annotations

from dataclasses import dataclass
from operator import add

from pydantic import BaseModel, ConfigDict, Field


class RunLimits(BaseModel):
    """The limits of one run.

    ``max_steps`` counts the model calls of each agent by itself; ``max_tokens`` counts input and
    output tokens together, those of sub-agents included, with ``None`` for no limit;
    ``max_repeats`` is how often the same call may give the same result, the same round of calls be
    made or the same text be given before that is a loop (see ``loops``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_steps: int = Field(default=12, ge=1, description="Model calls that each agent may make.")
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Input and output tokens that a run may use; none: no limit.",
    )
    max_repeats: int = Field(
        default=3,
        ge=1,
        description="Identical tool calls without progress that are no loop yet.",
    )


@dataclass(frozen=True)
class Spent:
    """What a run has used so far: model calls, tokens and US dollars.

    ``cached_tokens`` are part of the input, ``reasoning_tokens`` of the output.
    """

    steps: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def plus(self, more: Spent) -> Spent:
        """This and what was used on top of it."""
        return Spent(*map(add, vars(self).values(), vars(more).values()))


def check_step(limits: RunLimits, steps: int, agent: str) -> str | None:
    """Why an agent that has made so many model calls may not make one more; ``None``: it may."""
    if steps < limits.max_steps:
        return None
    return (
        f"The agent {agent} has made {steps} model calls, and its step limit is "
        f"{limits.max_steps} (max_steps)."
    )
