"""How patient the watch over loops is, and what it does about one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from corral.policies.patterns.globs import compile_glob

Measure = Literal["nudge", "ask", "stop"]
"""What is done about an alarm: the model is told, a human is asked, the run is stopped."""


class LoopSettings(BaseModel):
    """The settings under ``[loops]``.

    An alarm is a call, or a question to a model, that would go on with a loop. The model is told
    of the first ones; from number ``ask_after`` on a human is asked, and from ``stop_after`` on the
    run is stopped. Two equal numbers: nobody is asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="false: loops are not looked for.")
    ask_after: int = Field(default=2, ge=1, description="The alarm that a human is asked about.")
    stop_after: int = Field(default=3, ge=1, description="The alarm that stops the run.")
    stall_after: int = Field(
        default=8, ge=2, description="Calls in a row that bring nothing new before an alarm."
    )
    max_polls: int = Field(
        default=100, ge=1, description="Times that something is asked for that is still pending."
    )
    polling: tuple[str, ...] = Field(
        default=(), description="Tools (SERVER__TOOL, * is a wildcard) that may be asked for ever."
    )

    @model_validator(mode="after")
    def _check_order(self) -> LoopSettings:
        if self.ask_after > self.stop_after:
            raise ValueError(
                f"ask_after ({self.ask_after}) is more than stop_after ({self.stop_after}), so "
                "nobody would be asked; write the same number for both if that is meant"
            )
        return self

    def measure(self, alarm: int) -> Measure:
        """What is done about the alarm with this number; the first one is 1."""
        if alarm >= self.stop_after:
            return "stop"
        return "ask" if alarm >= self.ask_after else "nudge"


@dataclass(frozen=True)
class Patience:
    """How often something may happen before it counts as a loop.

    ``repeats`` is how many identical calls, rounds and answers are accepted.
    """

    repeats: int
    settings: LoopSettings = field(default_factory=LoopSettings)

    @property
    def stall(self) -> int:
        """How many calls in a row may bring nothing new."""
        return self.settings.stall_after

    @property
    def polls(self) -> int:
        """How often a call may be made that says ``pending``."""
        return max(self.settings.max_polls, self.repeats)

    @property
    def retries(self) -> int:
        """How often a call may be made that fails as if for a moment."""
        return 3 * self.repeats

    @property
    def pages(self) -> int:
        """How many pages may be empty, and how many members of a numbered series may be missing."""
        return 6 * self.stall

    def may_poll(self, tool: str) -> bool:
        """Whether the user has said that the tool is for polling."""
        return any(compile_glob(pattern).matches(tool) for pattern in self.settings.polling)
