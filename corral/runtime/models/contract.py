"""What a model is to the runtime: a request goes in, a stream of chunks comes out.

Messages are langchain-core's. The last chunk carries the whole answer and its usage.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

from langchain_core.messages import AIMessage, BaseMessage

from corral.policies.prices import Price
from corral.tools.contract import ToolSpec

ToolChoice = Literal["auto", "required", "none"]


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters; ``None`` leaves the model's own default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def within(self, max_tokens: int | None) -> Sampling:
        """These, with an answer of at most ``max_tokens``; ``None`` is no bound."""
        if max_tokens is None or (self.max_tokens or max_tokens + 1) <= max_tokens:
            return self
        return replace(self, max_tokens=max_tokens)


@dataclass(frozen=True)
class ModelRequest:
    """One call of a model.

    ``messages`` starts with the system message, if there is one. ``turn`` counts the model calls
    that the run already holds (0 for the first), which is all that a script needs to know.
    """

    messages: Sequence[BaseMessage]
    tools: Sequence[ToolSpec] = ()
    tool_choice: ToolChoice = "auto"
    sampling: Sampling = field(default_factory=Sampling)
    turn: int = 0


@dataclass(frozen=True)
class Usage:
    """Tokens of one call, as the model counted them, and its price in US dollars."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True)
class TextChunk:
    """A piece of the answer's text, as it is made."""

    text: str


@dataclass(frozen=True)
class FinalChunk:
    """The end of the stream: the complete message, tool calls included, and the usage.

    Every tool call in ``message.tool_calls`` has a ``name``, ``args`` (an object) and an ``id``
    that is unique in the thread.
    """

    message: AIMessage
    usage: Usage
    stop_reason: Literal["stop", "tool_calls", "length", "refusal"] = "stop"


Chunk = TextChunk | FinalChunk


class ChatModel(Protocol):
    """A model that answers requests. Safe to use from several tasks of one event loop."""

    @property
    def name(self) -> str:
        """What the user wrote to get it, for example ``openai:gpt-4o-mini``."""
        ...

    @property
    def context_window(self) -> int:
        """How many tokens a request and its answer may have together."""
        ...

    def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Answer: any number of ``TextChunk``, then exactly one ``FinalChunk``.

        Closing the iterator early stops the generation. Raises ``ModelError``.
        """
        ...

    def check_complete(self, turns: int) -> None:
        """Called when a run has completed after ``turns`` model calls.

        A scripted model raises ``ModelError`` here when turns are left over.
        """
        ...

    async def aclose(self) -> None:
        """Free what the model holds. Safe to call twice."""
        ...


@runtime_checkable
class Priced(Protocol):
    """A ``ChatModel`` that says what it costs, so that money can be reserved for its calls."""

    @property
    def price(self) -> Price | None:
        """Its price; ``None`` when nobody knows."""
        ...
