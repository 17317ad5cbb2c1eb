"""One attempt at an answer: a turn in the queue, then the provider's stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk

from corral.errors import ModelError
from corral.runtime.models.combined.usage import total
from corral.runtime.models.contract import Chunk, FinalChunk, NoticeChunk, UsageChunk
from corral.runtime.models.hosted.answer import Draft, Expected
from corral.runtime.models.hosted.retrying import LONGEST_WAIT, Course
from corral.runtime.models.hosted.traffic.lanes import Lane, Place

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_ALIVE = 5
"""How many times as long as silence a stream may go on with signs of life and nothing else."""

_TOLD_FROM = 1.0
"""Seconds from which on a wait is told."""


@dataclass(frozen=True)
class Attempt:
    """One attempt of a call's ``course``; ``draft`` is where its answer is put together.

    Without a ``lane`` nothing limits it.
    """

    name: str
    chat: BaseChatModel
    expected: Expected
    draft: Draft
    course: Course
    lane: Lane | None

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """The answer. Raises what the SDKs raise, and ``ModelError``."""
        place = self._place()
        try:
            if place is not None:
                async for notice in self._turn(place):
                    yield notice
                if rest := place.lane.rest():  # those before it in the queue have failed
                    raise self._rests(rest)
            async with aclosing(self._answer()) as answer:
                async for chunk in answer:
                    yield chunk
        finally:
            if place is not None:
                place.give_back(self._used)

    def _place(self) -> Place | None:
        if self.lane is None:
            return None
        rest = self.lane.rest()
        if rest is not None:
            raise self._rests(rest)
        return self.lane.place(self.expected.asked_tokens, self.expected.request.priority)

    def _rests(self, rest: float) -> ModelError:
        failures = self.lane.line.breaker.failures if self.lane is not None else 0
        return ModelError(
            f"{self.name} is not asked: it failed {failures} times in a row.",
            hint=f"It is tried again in {seconds(rest)}. Use another model until then.",
            kind="overloaded",
        )

    async def _turn(self, place: Place) -> AsyncGenerator[Chunk, None]:
        told = False
        async with aclosing(self.course.timed(place.turns(), None)) as waits:
            async for wait in waits:
                if wait is not None and wait > LONGEST_WAIT:
                    raise ModelError(
                        f"{self.name} has no room within its limit for {seconds(wait)}.",
                        hint="Use another model until then, or have the limit raised.",
                        kind="rate_limited",
                    )
                if not told and (wait is None or wait >= _TOLD_FROM):
                    told = True
                    what = "another call to end" if wait is None else f"its limit, {seconds(wait)}"
                    yield NoticeChunk(f"{self.name}: waiting for {what}.")

    async def _answer(self) -> AsyncGenerator[Chunk, None]:
        silence = None if self.lane is None else self.lane.settings.timeout * _ALIVE
        async with aclosing(self.course.timed(self._received(), silence)) as received:
            async for message in received:
                for chunk in self.draft.add(message):
                    yield self._counted(chunk)
        last = [*self.draft.final()]
        if self.lane is not None:
            self.lane.succeeded()  # who listens may leave with the last chunk
        for chunk in last:
            yield self._counted(chunk)

    async def _received(self) -> AsyncGenerator[AIMessageChunk, None]:
        call = self.expected.call
        settings = dict(call.settings)
        runnable: Any = self.chat
        if call.tools:
            forced = {key: settings.pop(key) for key in ("tool_choice",) if key in settings}
            runnable = self.chat.bind_tools(list(call.tools), **forced)
        async with aclosing(runnable.astream(list(call.messages), **settings)) as messages:
            async for message in messages:
                yield message if isinstance(message, AIMessageChunk) else _as_chunk(message)

    def _counted(self, chunk: Chunk) -> Chunk:
        """With what the attempts before it have used, and their number."""
        if not isinstance(chunk, UsageChunk | FinalChunk):
            return chunk
        chunk = replace(chunk, usage=total([self.course.used, chunk.usage]))
        if not isinstance(chunk, FinalChunk) or not self.course.retries:
            return chunk
        return replace(chunk, facts={**chunk.facts, "retries": self.course.retries})

    @property
    def _used(self) -> int | None:
        """The tokens that were used; ``None`` where nothing is known of them."""
        if not self.draft.begun:
            return None
        usage = self.draft.usage()
        return usage.input_tokens + usage.output_tokens


def seconds(number: float) -> str:
    """A time to wait, for people."""
    return f"{number:.1f} s" if number < 10 else f"{number:.0f} s"


def _as_chunk(message: AIMessage) -> AIMessageChunk:
    """The answer of a langchain model that does not stream."""
    return AIMessageChunk(
        content=message.content,
        tool_calls=message.tool_calls,
        invalid_tool_calls=message.invalid_tool_calls,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
    )
