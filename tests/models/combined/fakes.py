"""Models that do what a test says, and the requests that they were asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage

from corral.policies.prices import FREE, Price
from corral.runtime.models.contract import (
    ChatModel,
    Chunk,
    FinalChunk,
    ModelRequest,
    StopReason,
    TextChunk,
    TokenLogprob,
    Usage,
    UsageChunk,
)

ASKED = ModelRequest([HumanMessage("What is 6*7?")])
USED = Usage(input_tokens=100, output_tokens=10)
Act = str | Exception | asyncio.Event | Usage
"""What a model does next: say a word, fail, wait for an event, tell what it has used."""


@dataclass
class Fake:
    """A ``ChatModel`` that does ``acts`` one after the other and then ends its answer."""

    name: str
    acts: Sequence[Act] = ()
    context_window: int = 10_000
    price: Price | None = FREE
    stop_reason: StopReason = "stop"
    logprobs: Sequence[float] = ()
    answers: Sequence[str] = ()
    used: Usage = USED
    asked: list[ModelRequest] = field(default_factory=list)
    stopped: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Chunk, None]:
        self.asked.append(request)
        self.begun.set()
        acts = self.acts or [self.answers[(len(self.asked) - 1) % len(self.answers)]]
        said = []
        try:
            for act in acts:
                match act:
                    case str():
                        said.append(act)
                        yield TextChunk(act)
                    case Usage():
                        yield UsageChunk(act)
                    case asyncio.Event():
                        await act.wait()
                    case error:
                        raise error
        except (GeneratorExit, asyncio.CancelledError):
            self.stopped += 1
            raise
        likely = tuple(TokenLogprob("t", one) for one in self.logprobs)
        yield FinalChunk(AIMessage("".join(said)), self.used, self.stop_reason, likely)

    def check_complete(self, turns: int) -> None: ...

    async def aclose(self) -> None: ...


async def stream(model: ChatModel, request: ModelRequest = ASKED) -> list[Chunk]:
    """All that a model yields."""
    async with aclosing(model.stream(request)) as chunks:  # type: ignore[type-var]  # a generator
        return [chunk async for chunk in chunks]


async def answer(model: ChatModel, request: ModelRequest = ASKED) -> FinalChunk:
    """How a model's answer ends."""
    last = (await stream(model, request))[-1]
    assert isinstance(last, FinalChunk)
    return last


def shown(chunks: Sequence[Chunk]) -> str:
    """The text that a user sees come."""
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextChunk))


def asking(text: str = "What is 6*7?", **fields: Any) -> ModelRequest:
    """A request with that as the user's words."""
    return replace(ASKED, messages=[HumanMessage(text)], **fields)
