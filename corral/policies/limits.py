"""How far a run may go: steps, tokens and repetitions."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field


class RunLimits(BaseModel):
    """The limits of one run, its sub-agents included.

    ``max_steps`` counts model calls; ``max_tokens`` counts input and output tokens together, with
    ``None`` for no limit; ``max_repeats`` is how often the same call may give the same result
    before the next one is refused (see ``loops.stuck``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_steps: int = Field(default=12, ge=1, description="Model calls that a run may make.")
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Input and output tokens that a run may use; none: no limit.",
    )
    max_repeats: int = Field(
        default=3,
        ge=1,
        description="Identical tool calls without progress before a run is stopped.",
    )


@dataclass(frozen=True)
class Spent:
    """What a run has used so far: model calls, tokens and US dollars."""

    steps: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0

    def plus(
        self,
        *,
        steps: int = 0,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cost_usd: float = 0.0,
    ) -> Spent:
        """This and what was used on top of it."""
        return Spent(
            self.steps + steps,
            self.input_tokens + input_tokens,
            self.output_tokens + output_tokens,
            self.cost_usd + cost_usd,
        )


def check_model_call(limits: RunLimits, spent: Spent) -> str | None:
    """Why the next model call must not be made, naming the limit and its value; ``None``: it may.

    Tokens are known only after a call, so the last call may go over ``max_tokens``.
    """
    if spent.steps >= limits.max_steps:
        return (
            f"The run has made {spent.steps} model calls, and its step limit is "
            f"{limits.max_steps} (max_steps)."
        )
    used = spent.input_tokens + spent.output_tokens
    if limits.max_tokens is not None and used >= limits.max_tokens:
        return (
            f"The run has used {used} tokens, and its token limit is {limits.max_tokens} "
            "(max_tokens)."
        )
    return None
