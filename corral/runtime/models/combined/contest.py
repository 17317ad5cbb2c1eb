"""Members of a chain that are asked the same, one after the other or beside one another.

Each answers into one queue. The first whose answer begins is ahead, and the others are stopped;
what failed, and what was stopped, is counted and told in the facts of the answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, cast

from corral.errors import ModelError
from corral.jsontypes import JsonObject
from corral.runtime.models.combined.usage import billed, total
from corral.runtime.models.contract import (
    ChatModel,
    Chunk,
    FinalChunk,
    ModelRequest,
    NoticeChunk,
    TextChunk,
    ToolCallChunk,
    Usage,
    UsageChunk,
)

QUEUED = 256
"""Chunks that wait to be taken before who makes them has to wait."""

REFUSALS = ("refusal", "content_filter")
"""How an answer ends that is none."""


@dataclass(eq=False)
class Member:
    """A member that is asked: how far its answer is, and what it has used by then."""

    model: ChatModel
    used: Usage = field(default_factory=Usage)
    shown: bool = False
    was_stopped: bool = False
    task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """End its answer, whether or not it has begun."""
        if self.task is not None:
            self.task.cancel()


@dataclass(frozen=True)
class _Arrival:
    """A chunk of a member's, or what it ended with in place of an answer."""

    member: Member
    what: Chunk | BaseException


@dataclass(frozen=True)
class ChainTerms:
    """When the next member is asked: also after ``hedge`` seconds of silence, or a refusal."""

    hedge: float | None = None
    refusals: bool = False


ONE_BY_ONE = ChainTerms()
"""The next member is asked when one has failed, and then only."""


class Contest:
    """One request, asked of the members of a chain until one has answered."""

    def __init__(
        self, members: Sequence[ChatModel], request: ModelRequest, terms: ChainTerms
    ) -> None:
        self._waiting = deque(members)
        self._request = request
        self._terms = terms
        self._arrivals: asyncio.Queue[_Arrival] = asyncio.Queue(QUEUED)
        self._running: list[Member] = []
        self._ended: list[Member] = []
        self._failures: list[tuple[ChatModel, ModelError]] = []
        self._hedge: JsonObject = {}
        self._ends = self._deadline(request)

    async def chunks(self) -> AsyncIterator[Chunk]:
        """The answer. Raises ``ModelError`` when no member has one."""
        try:
            self._ask_next()
            while True:
                arrival = await self._next()
                if arrival is None:
                    self._ask_beside()
                    continue
                for chunk in self._taken(arrival):
                    yield chunk
                    if isinstance(chunk, FinalChunk):
                        return
        finally:
            await self._stop_all()

    async def _next(self) -> _Arrival | None:
        """What comes next; ``None`` when nothing has come for so long that another is asked."""
        may_hedge = not self._hedge and len(self._running) == 1 and self._waiting
        if self._terms.hedge is None or not may_hedge or self._running[0].shown:
            return await self._arrivals.get()
        try:
            async with asyncio.timeout(self._terms.hedge):
                return await self._arrivals.get()
        except TimeoutError:
            return None

    def _ask_next(self) -> None:
        member = Member(self._waiting.popleft())
        member.task = asyncio.create_task(self._pump(member))
        self._running.append(member)

    def _ask_beside(self) -> None:
        first = self._running[0].model
        self._ask_next()
        self._hedge = {
            "first": first.name,
            "second": self._running[-1].model.name,
            "after_ms": round((self._terms.hedge or 0) * 1000),
        }

    async def _pump(self, member: Member) -> None:
        request = replace(self._request, deadline=self._seconds_left())
        try:
            async with aclosing(cast("Any", member.model.stream(request))) as chunks:
                async for chunk in chunks:
                    await self._arrivals.put(_Arrival(member, chunk))
                    if isinstance(chunk, FinalChunk):
                        return
        except Exception as error:  # noqa: BLE001  carried to who waits, and raised there
            await self._arrivals.put(_Arrival(member, error))
            return
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody has stopped it: something that it waited for was.
        name = member.model.name
        unsaid = ModelError(f"The model {name} ended its answer without saying so.")
        await self._arrivals.put(_Arrival(member, unsaid))

    def _taken(self, arrival: _Arrival) -> list[Chunk]:
        member, what = arrival.member, arrival.what
        if member not in self._running:
            return []
        match what:
            case BaseException():
                return self._failed(member, what)
            case NoticeChunk():
                return [what]
            case UsageChunk():
                member.used = billed(what, member.model)
                return [UsageChunk(self._used(), what.model or member.model.name)]
            case FinalChunk() if self._falls(member, what):
                member.used = billed(what, member.model)
                said = ModelError(f"{member.model.name} refuses to answer.", kind="refused")
                return self._failed(member, said)
            case FinalChunk():
                self._is_ahead(member)
                return [self._final(member, what)]
            case _:
                self._is_ahead(member)
                member.shown = member.shown or _shows(what)
                return [what]

    def _falls(self, member: Member, final: FinalChunk) -> bool:
        wanted = self._terms.refusals and final.stop_reason in REFUSALS
        return wanted and not member.shown and bool(self._waiting)

    def _failed(self, member: Member, error: BaseException) -> list[Chunk]:
        """Ask the next member instead; raises when that cannot be."""
        self._end(member)
        if not isinstance(error, ModelError):
            raise error
        self._failures.append((member.model, error))
        if member.shown:
            raise _cut_off(error)
        if error.kind == "request":
            raise self._all_failed()
        if error.kind == "too_long":
            self._pass_over(member.model.context_window)
        if self._running:
            return []
        if not self._waiting:
            raise self._all_failed()
        self._ask_next()
        instead = self._running[-1].model.name
        return [NoticeChunk(f"{error.message} {instead} is asked instead.")]

    def _pass_over(self, window: int) -> None:
        """Those that can read no more than one for which the request was too long."""
        self._waiting = deque(one for one in self._waiting if one.context_window > window)

    def _is_ahead(self, member: Member) -> None:
        for other in [one for one in self._running if one is not member]:
            other.stop()
            other.was_stopped = True
            self._end(other)

    def _end(self, member: Member) -> None:
        self._running.remove(member)
        self._ended.append(member)

    def _final(self, member: Member, final: FinalChunk) -> FinalChunk:
        member.used = billed(final, member.model)
        for other in self._ended:
            if other.used == Usage() and other.was_stopped:
                # What it was asked is paid for, though it has not said how much that was.
                asked = UsageChunk(Usage(input_tokens=final.usage.input_tokens))
                other.used = billed(asked, other.model)
        return replace(
            final,
            usage=self._used(),
            model=final.model or member.model.name,
            facts={**final.facts, **self._facts(final.facts)},
        )

    def _used(self) -> Usage:
        return total(one.used for one in (*self._ended, *self._running))

    def _facts(self, inner: JsonObject) -> JsonObject:
        """What happened before the answer; ``inner`` are the facts of who answered."""
        told = [
            {"model": model.name, "kind": error.kind, "error": error.message}
            for model, error in self._failures
        ]
        facts: JsonObject = {}
        if told:
            facts["fallbacks"] = [*told, *inner.get("fallbacks", ())]
        if self._hedge:
            facts["hedged"] = self._hedge
        return facts

    def _all_failed(self) -> ModelError:
        last = self._failures[-1][1]
        if len(self._failures) == 1:
            return last
        each = " ".join(f"{model.name}: {error.message}" for model, error in self._failures)
        return ModelError(
            f"None of {len(self._failures)} models answered. {each}", hint=last.hint, kind=last.kind
        )

    @staticmethod
    def _deadline(request: ModelRequest) -> float | None:
        now = asyncio.get_running_loop().time()
        return None if request.deadline is None else now + request.deadline

    def _seconds_left(self) -> float | None:
        now = asyncio.get_running_loop().time()
        return None if self._ends is None else max(0.0, self._ends - now)

    async def _stop_all(self) -> None:
        members = [*self._ended, *self._running]
        for member in members:
            member.stop()
        tasks = [member.task for member in members if member.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)


def _shows(chunk: Chunk) -> bool:
    """Whether it is a part of the answer that a user has seen; thoughts are none."""
    return isinstance(chunk, ToolCallChunk) or (isinstance(chunk, TextChunk) and bool(chunk.text))


def _cut_off(error: ModelError) -> ModelError:
    return ModelError(
        f"{error.message} A part of the answer had been shown, so no other model was asked.",
        hint=error.hint or "Resume the run to have it asked again.",
        kind=error.kind,
    )
