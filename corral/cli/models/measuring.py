"""Measures how fast a model answers, through the interface that agents use."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from langchain_core.messages import HumanMessage, SystemMessage

from corral.jsontypes import JsonObject
from corral.runtime.models.contract import (
    ChatModel,
    FinalChunk,
    ModelRequest,
    NoticeChunk,
    Sampling,
    Usage,
    UsageChunk,
)

_WORDS = ("time", "year", "people", "way", "day", "thing", "life", "child", "world", "hand")
_TASK = "Count upwards from 1 in words, one number after the other, and do not stop."


@dataclass(frozen=True)
class Timed:
    """One answer. Times in seconds; ``first`` is until its first piece, ``whole`` until its end."""

    first: float
    whole: float
    input_tokens: int
    cached_tokens: int
    output_tokens: int

    @property
    def decode(self) -> float:
        """Tokens a second after the first; 0 for an answer of one token."""
        return (self.output_tokens - 1) / max(self.whole - self.first, 1e-9)

    @property
    def prompt(self) -> float:
        """Tokens a second of the prompt, of those that were not in a cache."""
        return (self.input_tokens - self.cached_tokens) / max(self.first, 1e-9)


@dataclass(frozen=True)
class Parallel:
    """Several answers at once: how many tokens a second they got together."""

    agents: int
    tokens_per_second: float
    slowest_first_ms: float


@dataclass(frozen=True)
class Measured:
    """What was measured of one model. Rates are tokens a second; memory is in bytes."""

    model: str
    load_ms: float
    prompt_tokens: int
    prompt_per_second: float
    first_token_new_ms: float
    first_token_cached_ms: float
    cached_tokens: int
    decode_per_second: float
    parallel: tuple[Parallel, ...]
    memory_bytes: int

    def to_json(self) -> JsonObject:
        """All fields."""
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """How much is asked: tokens of a prompt (about) and of an answer, and how many at once."""

    prompt_tokens: int
    tokens: int
    parallel: Sequence[int]


async def measure(model: ChatModel, plan: Plan, tell: Callable[[str], None]) -> Measured:
    """Measure one model; ``tell`` gets a line about what goes on. Raises ``ModelError``."""
    loading = await _timed(model, _request("Hello.", 1), tell)
    tell("evaluating a prompt")
    prompt = _prompt(plan.prompt_tokens, seed=1)
    new = await _timed(model, _request(prompt, plan.tokens), tell)
    cached = await _timed(model, _request(prompt, plan.tokens), tell)
    groups = []
    for agents in plan.parallel:
        tell(f"{agents} at once")
        groups.append(await _together(model, agents, plan, tell))
    return Measured(
        model=model.name,
        load_ms=loading.whole * 1000,
        prompt_tokens=new.input_tokens,
        prompt_per_second=new.prompt,
        first_token_new_ms=new.first * 1000,
        first_token_cached_ms=cached.first * 1000,
        cached_tokens=cached.cached_tokens,
        decode_per_second=max(new.decode, cached.decode),
        parallel=tuple(groups),
        memory_bytes=_resident(),
    )


async def _together(
    model: ChatModel, agents: int, plan: Plan, tell: Callable[[str], None]
) -> Parallel:
    requests = [
        _request(_prompt(min(plan.prompt_tokens, 64), seed=100 * agents + number), plan.tokens)
        for number in range(agents)
    ]
    begun = time.perf_counter()
    timed = await asyncio.gather(*(_timed(model, request, tell) for request in requests))
    decoding = time.perf_counter() - begun - min(one.first for one in timed)
    tokens = sum(one.output_tokens - 1 for one in timed)
    slowest = max(one.first for one in timed)
    return Parallel(agents, tokens / max(decoding, 1e-9), slowest * 1000)


async def _timed(model: ChatModel, request: ModelRequest, tell: Callable[[str], None]) -> Timed:
    begun = time.perf_counter()
    first = whole = 0.0
    usage = Usage()
    async for chunk in model.stream(request):
        if isinstance(chunk, NoticeChunk):
            tell(chunk.text + (f" {chunk.done:.0%}" if chunk.done is not None else ""))
        elif isinstance(chunk, FinalChunk):
            whole, usage = time.perf_counter() - begun, chunk.usage
        elif not first and not isinstance(chunk, UsageChunk):
            first = time.perf_counter() - begun
    return Timed(
        first or whole, whole, usage.input_tokens, usage.cached_tokens, usage.output_tokens
    )


def _request(prompt: str, tokens: int) -> ModelRequest:
    messages = [SystemMessage("You count numbers."), HumanMessage(prompt + _TASK)]
    return ModelRequest(messages, sampling=Sampling(temperature=0.0, max_tokens=tokens, seed=1))


def _prompt(tokens: int, *, seed: int) -> str:
    """About so many tokens of common words, which nobody has evaluated yet."""
    chosen = random.Random(seed)  # noqa: S311  # words to read, and no secret
    return " ".join(chosen.choice(_WORDS) for _ in range(max(1, tokens))) + "\n\n"


def _resident() -> int:
    import psutil  # only where it is measured

    return int(psutil.Process().memory_info().rss)
