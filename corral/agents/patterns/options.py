"""The options of patterns: what all have in common."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """The options of a pattern. Every loop in it is bounded by one of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def roles(self) -> Iterator[str]:
        """The sub-agents that have a part in the pattern's work: a critic, a judge, a planner.

        The agent gives them no tasks of its own.
        """
        return iter(())

    def members(self) -> Iterator[str]:
        """All sub-agents that the options name."""
        return self.roles()
