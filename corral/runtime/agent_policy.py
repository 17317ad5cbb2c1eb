"""The policy of an agent, as the settings and an agent's file say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from corral.policies.rules import Rule


def is_file(policy: str) -> bool:
    """Whether a policy is named by its file, and is no preset."""
    return policy.endswith(".toml") or "/" in policy


class AgentPolicy(BaseModel):
    """What an agent and all below it may do at most: it narrows what else holds, never loosens it.

    Written as a text it is ``name``, as a list it is ``rules``. Under a named policy a call that no
    rule covers is allowed if it is read-only and else asked about, as in a run; rules alone say
    nothing about other calls.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(
        default=None, min_length=1, description="A preset or a policy file, after the rules."
    )
    rules: tuple[Rule, ...] = Field(default=(), description="Rules, as in [[rules]].")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        return {"rules": value} if isinstance(value, list | tuple) else value

    def found_from(self, folder: Path) -> AgentPolicy:
        """The policy with its file, if it names one, as a resume from elsewhere finds it."""
        if self.name is None or not is_file(self.name):
            return self
        return self.model_copy(update={"name": str(folder / Path(self.name).expanduser())})

    @property
    def in_words(self) -> str:
        """The policy in a few words."""
        count = f"{len(self.rules)} rule{'s' if len(self.rules) != 1 else ''}"
        return " before ".join(filter(None, (count if self.rules else "", self.name or "")))
