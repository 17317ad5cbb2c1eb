"""Checks of what a run did: its tool calls, its end, its cost and the files it leaves."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from corral.evals.checks.base import Check, Texts, brief, subset
from corral.evals.grading import Evidence, ToolUse
from corral.jsontypes import JsonObject, canonical
from corral.runtime.views import RunStatus


class CallPattern(BaseModel):
    """A tool call: its name, some of its arguments, how often, and whether it went well.

    ``args`` is a subset: other arguments and keys do not matter. ``times`` is exact; without it
    once or more. ``ok`` counts only calls that succeeded (or, false, only those that did not).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    args: JsonObject | None = None
    times: int | None = Field(default=None, ge=0)
    ok: bool | None = None

    def matches(self, use: ToolUse) -> bool:
        """Whether a call counts."""
        return (
            use.name == self.name
            and (self.ok is None or use.ok == self.ok)
            and (self.args is None or subset(self.args, use.args))
        )


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class ToolCalled(Check):
    """The run made this tool call."""

    key = "tool_called"
    tool_called: Annotated[CallPattern, BeforeValidator(_named)]

    def failure(self, evidence: Evidence) -> str | None:
        """See ``Check.failure``."""
        wanted = self.tool_called
        uses = list(evidence.tool_uses())
        count = sum(map(wanted.matches, uses))
        if count == wanted.times or (wanted.times is None and count):
            return None
        made = [f"{use.name}({canonical(use.args)})" for use in uses]
        return f"called {count} times; calls made: {brief(', '.join(made) or 'none')}"


class ToolNotCalled(Check):
    """The model did not even ask for this tool (or any of these); refused calls count as asked."""

    key = "tool_not_called"
    tool_not_called: Annotated[
        tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)
    ] = Field(min_length=1)

    def failure(self, evidence: Evidence) -> str | None:
        """See ``Check.failure``."""
        names = {use.name for use in evidence.tool_uses()}
        called = sorted(names.intersection(self.tool_not_called))
        return f"called: {', '.join(called)}" if called else None


class Status(Check):
    """The run ended so. A case without this check must have ``completed``."""

    key = "status"
    status: RunStatus

    def failure(self, evidence: Evidence) -> str | None:
        """See ``Check.failure``."""
        result = evidence.outcome.result
        if result.status == self.status:
            return None
        why = result.error or ", ".join(f"asks for {a.tool}" for a in result.approvals)
        return f"the run is {result.status}" + (f": {brief(why)}" if why else "")


class MaxSteps(Check):
    """The run took at most so many model calls."""

    key = "max_steps"
    max_steps: int = Field(ge=0)

    def failure(self, evidence: Evidence) -> str | None:
        """See ``Check.failure``."""
        steps = evidence.outcome.result.steps
        return None if steps <= self.max_steps else f"took {steps} steps"


class MaxTokens(Check):
    """The run used at most so many tokens, input and output together."""

    key = "max_tokens"
    max_tokens: int = Field(ge=0)

    def failure(self, evidence: Evidence) -> str | None:
        """See ``Check.failure``."""
        usage = evidence.outcome.result.usage
        used = usage.input_tokens + usage.output_tokens
        return None if used <= self.max_tokens else f"used {used} tokens"


class FileText(BaseModel):
    """A file of the workspace, and texts that are in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    text: Texts


class FileContains(Check):
    """A file of the workspace contains this text, or these."""

    key = "file_contains"
    file_contains: FileText

    def failure(self, evidence: Evidence) -> str | None:
        """See ``Check.failure``."""
        text = evidence.read_file(self.file_contains.path)
        if text is None:
            return f"there is no file {self.file_contains.path}"
        wanted = self.file_contains.text
        missing = [one for one in wanted.all if one not in text]
        if missing:
            return f"lacks {brief(missing)}"
        if wanted.any and not any(one in text for one in wanted.any):
            return "has none of them"
        return None
