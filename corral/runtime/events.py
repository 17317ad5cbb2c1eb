"""What a run tells while it goes on. Each event is a frozen record with a ``type``.

``stream`` yields these in order, ``RunFinished`` last; ``corral run --json`` prints their
``to_json``, one a line.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import ClassVar

from corral.jsontypes import JsonObject
from corral.runtime.views import Approval, Record, RunResult


class Typed(Record):
    """A record whose JSON starts with its type."""

    type: ClassVar[str]

    def to_json(self) -> JsonObject:
        """``type`` and all fields."""
        return {"type": self.type, **super().to_json()}


@dataclass(frozen=True)
class Placed(Typed):
    """What happened at a ``path`` of the run (see ``paths``).

    The last of ``agents`` did it; before it are those that it works for, the run's own first.
    """

    path: str = field(kw_only=True)
    agents: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def agent(self) -> str:
        """The name of the agent that did it."""
        return self.agents[-1] if self.agents else ""


@dataclass(frozen=True)
class RunStarted(Typed):
    """The run is on disk and begins (or goes on, when ``resumed``)."""

    type: ClassVar[str] = "run_started"
    run: str
    thread: str
    agent: str
    model: str
    resumed: bool = False


@dataclass(frozen=True)
class TextDelta(Placed):
    """A piece of the model's text, as it is made."""

    type: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class ReasoningDelta(Placed):
    """A piece of what the model thinks before it answers."""

    type: ClassVar[str] = "reasoning"
    text: str


@dataclass(frozen=True)
class ToolCallDelta(Placed):
    """A piece of a tool call that the model is writing; it has not been made, and may never be.

    ``index`` counts the calls of one answer. ``name`` comes with a call's first piece, ``args`` is
    more of its arguments as JSON text.
    """

    type: ClassVar[str] = "tool_call"
    index: int
    name: str
    args: str


@dataclass(frozen=True)
class ModelFinished(Placed):
    """A model call ended. ``text`` is its whole text; for the figures see ``effects.Spend``.

    What was not said ``aloud`` is for the agent itself: a draft, a vote or a judgement.
    """

    type: ClassVar[str] = "model_finished"
    text: str
    input_tokens: int
    output_tokens: int
    cost_usd: float
    duration_ms: float
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    first_token_ms: float | None = None
    generation_ms: float | None = None
    answered_by: str = ""
    aloud: bool = True


@dataclass(frozen=True)
class ToolStarted(Placed):
    """A tool call is about to be made: policy has let it through."""

    type: ClassVar[str] = "tool_started"
    name: str
    args: JsonObject


@dataclass(frozen=True)
class ToolFinished(Placed):
    """A tool call ended; ``text`` is what the model will read."""

    type: ClassVar[str] = "tool_finished"
    name: str
    text: str
    is_error: bool
    duration_ms: float


@dataclass(frozen=True)
class AgentStarted(ToolStarted):
    """An agent is about to be given a task: the call of the sub-agent ``name``.

    All that it does has a path that begins with this one and a slash, and its name in ``agents``.
    """

    type: ClassVar[str] = "agent_started"


@dataclass(frozen=True)
class AgentFinished(ToolFinished):
    """The sub-agent ``name`` ended its task; ``text`` is what it reports."""

    type: ClassVar[str] = "agent_finished"


@dataclass(frozen=True)
class Notice(Typed):
    """Something that the user should know, in words, while the run goes on.

    ``done`` is how much of it is, from 0 to 1, for what takes its time.
    """

    type: ClassVar[str] = "notice"
    text: str
    done: float | None = None


@dataclass(frozen=True)
class ApprovalRequested(Typed):
    """A call waits for a human. The run pauses when all else is done."""

    type: ClassVar[str] = "approval_requested"
    approval: Approval


@dataclass(frozen=True)
class RunFinished(Typed):
    """Always the last event. Its JSON is flat: ``{"type": "result", "run": …}``."""

    type: ClassVar[str] = "result"
    result: RunResult

    def to_json(self) -> JsonObject:
        """``type`` and the fields of the result."""
        return {"type": self.type, **self.result.to_json()}


Event = (
    RunStarted
    | TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | ModelFinished
    | ToolStarted
    | ToolFinished
    | AgentStarted
    | AgentFinished
    | Notice
    | ApprovalRequested
    | RunFinished
)

Events = AsyncGenerator[Event, None]
"""A run's events as they come; closing the generator stops the run."""
