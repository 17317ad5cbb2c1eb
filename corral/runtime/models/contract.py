"""What a model is to the runtime: a request goes in, a stream of chunks comes out.

Messages are langchain-core's. The last chunk carries the whole answer and its usage.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

from langchain_core.messages import AIMessage, BaseMessage

from corral.jsontypes import JsonObject
from corral.policies.prices import Price
from corral.tools.contract import ToolSpec

StopReason = Literal["stop", "tool_calls", "length", "refusal", "content_filter"]
"""Why an answer ended: by itself (or at a stop string), to call tools, at a length limit, because
the model refused, or because its provider filtered it."""


@dataclass(frozen=True)
class NamedTool:
    """A ``tool_choice``: this tool must be called."""

    name: str


ToolChoice = Literal["auto", "required", "none"] | NamedTool


@dataclass(frozen=True)
class JsonOutput:
    """The answer's text is one JSON value that fits ``schema``. ``name`` is for providers."""

    schema: JsonObject
    name: str = "answer"


@dataclass(frozen=True)
class ChoiceOutput:
    """The answer's text is one of ``choices``, which are different from each other."""

    choices: tuple[str, ...]


Output = JsonOutput | ChoiceOutput

Reasoning = Literal["none", "low", "medium", "high"]
"""How hard a model that can reason does."""


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters; ``None`` leaves the model's own default.

    A parameter that a provider does not have is left out there. ``logprobs`` asks for the log
    probabilities of the answer's tokens and of that many likeliest ones at each place.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: int | None = None

    def to_json(self) -> JsonObject:
        """The parameters by name.

        The five that there were first are always there, the others where they are given: what
        identifies a model call must not change with a new version of Corral.
        """
        first = ("temperature", "top_p", "max_tokens", "seed", "stop")
        return {k: v for k, v in vars(self).items() if v is not None or k in first}

    def or_else(self, other: Sampling) -> Sampling:
        """These, with what they leave open taken from ``other``."""
        left_open = [name for name, value in vars(self).items() if value in (None, ())]
        return replace(self, **{name: getattr(other, name) for name in left_open})

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
    ``output`` is what the text of an answer must be; an answer may still call tools, where there
    are any and ``tool_choice`` allows it. ``reasoning`` is how hard a model that can reason does.

    What follows changes no answer. ``conversation`` is the same for all requests that continue one
    another: the thread and the agent in it, empty where nobody goes on. ``priority``: a request
    with a higher one is served first. ``deadline`` is in seconds from now, for the whole answer.
    ``agent`` (its name), ``purpose`` (answer, summary, check, …) and ``tags`` (of the run) are what
    a route may go by.
    """

    messages: Sequence[BaseMessage]
    tools: Sequence[ToolSpec] = ()
    tool_choice: ToolChoice = "auto"
    sampling: Sampling = field(default_factory=Sampling)
    turn: int = 0
    output: Output | None = None
    parallel_tool_calls: bool = True
    reasoning: Reasoning | None = None
    adapters: tuple[Adapter, ...] = ()
    conversation: str = ""
    priority: int = 0
    deadline: float | None = None
    agent: str = ""
    purpose: str = "answer"
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter (a GGUF file) that a local model answers with, and how strongly."""

    path: str
    scale: float = 1.0


@dataclass(frozen=True)
class Usage:
    """Tokens of one call, as the model counted them, and its price in US dollars.

    ``cached_tokens`` of the input were not evaluated again, ``cache_write_tokens`` of it were
    written to a provider's cache, ``reasoning_tokens`` of the output are thoughts.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class TokenLogprob:
    """A token of the answer's text, its natural log probability, and the likeliest instead."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


def mean_probability(logprobs: Sequence[float]) -> float | None:
    """The mean probability of tokens: the exponential of the mean of their log probabilities.

    ``None`` where there are none.
    """
    return math.exp(math.fsum(logprobs) / len(logprobs)) if logprobs else None


@dataclass(frozen=True)
class ReasoningChunk:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True)
class ToolCallChunk:
    """A piece of a tool call, as it is made.

    ``index`` counts the calls of the answer; ``name`` is told in a call's first piece; ``args`` is
    more of the arguments' JSON text. The call is not to be made before ``FinalChunk`` has it.
    """

    index: int
    name: str = ""
    args: str = ""


@dataclass(frozen=True)
class NoticeChunk:
    """What a user who waits should know: a model is loaded, a provider is asked again.

    ``done`` is how much of it is, from 0 to 1, where that is known.
    """

    text: str
    done: float | None = None


@dataclass(frozen=True)
class UsageChunk:
    """What has been used so far. The newest one counts for an answer that is broken off.

    ``model`` is the reference of the model that answers, where that is not the one that was asked:
    the usage then says what it cost.
    """

    usage: Usage
    model: str = ""


@dataclass(frozen=True)
class TextChunk:
    """A piece of the answer's text, as it is made."""

    text: str


@dataclass(frozen=True)
class FinalChunk:
    """The end of the stream: the complete message, tool calls included, and the usage.

    Every tool call in ``message.tool_calls`` has a ``name``, ``args`` (an object) and an ``id``
    that is unique in the thread. ``model`` is the reference of the model that answered, where that
    is not the one that was asked; see ``UsageChunk``. ``facts`` are further ones for the trace
    (JSON), by names such as ``fallbacks``, ``retries`` or ``routed``.
    """

    message: AIMessage
    usage: Usage
    stop_reason: StopReason = "stop"
    logprobs: tuple[TokenLogprob, ...] = ()
    model: str = ""
    facts: JsonObject = field(default_factory=dict)


Chunk = TextChunk | ReasoningChunk | ToolCallChunk | NoticeChunk | UsageChunk | FinalChunk


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
        """Answer: any number of other chunks, then exactly one ``FinalChunk``.

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
class Identified(Protocol):
    """A ``ChatModel`` whose answers follow from the request and from what it is."""

    @property
    def identity(self) -> JsonObject | None:
        """What its answers depend on besides the request; ``None`` if on more than one can say.

        ``sampling`` holds where a request says nothing. A model over others has the identities of
        those as its ``members``.
        """
        ...


@runtime_checkable
class Priced(Protocol):
    """A ``ChatModel`` that says what it costs, so that money can be reserved for its calls."""

    @property
    def price(self) -> Price | None:
        """Its price; ``None`` when nobody knows."""
        ...


@runtime_checkable
class Manifold(Protocol):
    """A ``ChatModel`` that may ask for more than one answer to give one."""

    @property
    def most_answers(self) -> int:
        """How many it asks for at most. Its price is that of all of them."""
        ...


class EmbeddingModel(Protocol):
    """A model that turns texts into vectors. Safe to use from several tasks of one event loop."""

    @property
    def name(self) -> str:
        """What the user wrote to get it."""
        ...

    @property
    def dimensions(self) -> int | None:
        """How long the vectors are; ``None`` where that is known only after the first."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector of length 1 for each text, in order, so that a product is a cosine.

        Raises ``ModelError``.
        """
        ...

    async def aclose(self) -> None:
        """Free what the model holds. Safe to call twice."""
        ...
