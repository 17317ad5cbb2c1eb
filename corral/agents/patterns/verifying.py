"""How good an answer is, from 0 to 1: by a tool of the agent's, a sub-agent, or the agent itself.

A Python function among ``Agent.functions`` is a tool, so a verifier of one's own goes through
policy, the journal and replay like any other call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field

from corral.agents.kit import Kit
from corral.agents.patterns.options import Options
from corral.errors import ConfigError
from corral.jsontypes import Json, JsonObject
from corral.runtime.calls import prepare

Share = Annotated[float, Field(ge=0, le=1)]


class VerifierOptions(Options):
    """Who says how good an answer is."""

    verifier: str = Field(
        default="",
        description="A tool (SERVER__TOOL) that takes the `answer`, and the `task` if it wants it, "
        "and returns true, false, a number from 0 to 1, or an object with a `score`.",
    )
    critic: str = Field(
        default="", description="The sub-agent that judges; the agent itself when left out."
    )

    def roles(self) -> Iterator[str]:
        """The critic."""
        yield from filter(None, (self.critic,))


class Score(BaseModel):
    """How likely it is that something is right."""

    score: Share = Field(description="From 0, certainly wrong, to 1, certainly right.")


@dataclass(frozen=True)
class Verifier:
    """A tool that says how good an answer is."""

    kit: Kit
    tool: str

    async def score(self, task: str, answer: str) -> float:
        """What the tool says of the answer; 0 when it fails, or says something else than a score.

        Raises ``ConfigError`` for a tool that is not there or takes no ``answer``.
        """
        args = await self._args(task, answer)
        result = await self.kit.call({"name": self.tool, "args": args})
        return 0.0 if result.status == "error" else score_in(str(result.text))

    async def _args(self, task: str, answer: str) -> JsonObject:
        services = self.kit.services
        setting = await prepare(self.kit.agent.name, services.model_ref, services)
        spec = setting.tool(self.tool)
        if spec is None:
            names = ", ".join(tool.name for tool in setting.tools) or "none"
            raise ConfigError(
                f"The verifier {self.tool!r} is no tool of the agent {self.kit.agent.name!r}.",
                hint=f"Its tools are: {names}.",
            )
        takes: JsonObject = spec.input_schema.get("properties", {})
        if "answer" not in takes:
            raise ConfigError(
                f"The verifier {self.tool!r} takes no argument `answer`.",
                hint="Give it a text argument of that name, and `task` if it needs the request.",
            )
        return {"answer": answer, **({"task": task} if "task" in takes else {})}


def score_in(text: str) -> float:
    """The score that a verifier returned as text, from 0 to 1; 0 for what is none."""
    try:
        value: Json = json.loads(text.strip().lower())
    except (ValueError, RecursionError):
        return 0.0
    if isinstance(value, dict):
        value = value.get("score", value.get("result"))
    if not isinstance(value, bool | int | float):
        return 0.0
    return float(min(1, max(0, value)))


def shares(count: int) -> Any:
    """The type of that many scores."""
    return Annotated[list[Share], Field(min_length=count, max_length=count)]
