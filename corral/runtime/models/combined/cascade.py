"""A cascade: the cheapest model first, and the next one when it is not sure of its answer.

An answer is held back until it is known to be sure enough, so that nothing is shown and then
taken back. The last model is not doubted: what it says is shown as it comes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, cast

from corral.errors import ModelError
from corral.jsontypes import JsonObject
from corral.policies.prices import Price
from corral.runtime.models.combined.confidence import (
    Answered,
    ByAgreement,
    ByJudge,
    Gauge,
    Verdict,
)
from corral.runtime.models.combined.contest import REFUSALS
from corral.runtime.models.combined.identity import identity_of_all
from corral.runtime.models.combined.members import OverMembers
from corral.runtime.models.combined.usage import answers_of, billed, of_all, total
from corral.runtime.models.contract import (
    ChatModel,
    Chunk,
    FinalChunk,
    ModelRequest,
    NoticeChunk,
    Usage,
    UsageChunk,
)


@dataclass
class _Account:
    """What the models asked so far have used, and what became of their answers."""

    used: list[Usage] = field(default_factory=list)
    tried: list[JsonObject] = field(default_factory=list)

    def so_far(self, member: ChatModel, *more: Usage) -> UsageChunk:
        return UsageChunk(total([*self.used, *more]), member.name)


@dataclass
class _Held:
    """An answer that is not shown yet."""

    model: ChatModel
    pieces: list[Chunk] = field(default_factory=list)
    final: FinalChunk | None = None
    used: Usage = field(default_factory=Usage)


class Cascade(OverMembers):
    """A ``ChatModel`` over others, which stay the caller's. ``members``: the cheapest first."""

    def __init__(
        self, name: str, members: Sequence[ChatModel], gauge: Gauge, *, threshold: float
    ) -> None:
        super().__init__(name, members)
        self._gauge = gauge
        self._threshold = threshold

    @property
    def price(self) -> Price | None:
        """Of all that one request may lead to: every member, their samples and the judge."""
        return of_all(self._all)

    @property
    def most_answers(self) -> int:
        """See ``Manifold.most_answers``."""
        return sum(answers_of(one) for one in self._all)

    @property
    def identity(self) -> JsonObject | None:
        """See ``Identified.identity``."""
        return identity_of_all(self._all, [type(self._gauge).__name__, self._threshold])

    @property
    def _all(self) -> Sequence[ChatModel]:
        """Every model that one request may lead to, as often as it may."""
        match self._gauge:
            case ByAgreement(samples):
                return [*self.members[:-1] * samples, self.members[-1]]
            case ByJudge(judge):
                return [*self.members, *[judge] * (len(self.members) - 1)]
            case _:
                return self.members

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """See ``ChatModel.stream``. ``facts["cascade"]`` says of each model how sure it was."""
        account = _Account()
        for member, following in zip(self.members, self.members[1:], strict=False):
            held = _Held(member)
            async with aclosing(cast("Any", self._holding(held, request, account))) as told:
                async for chunk in told:
                    yield chunk
            account.used.append(held.used)
            yield account.so_far(member)
            verdict = await self._verdict(held, request)
            account.used.append(verdict.used)
            account.tried.append(self._told(member, verdict))
            yield account.so_far(member)
            if held.final is not None and self._is_enough(verdict):
                for piece in held.pieces:
                    yield piece
                yield self._ended(held.final, member, account)
                return
            yield NoticeChunk(f"{member.name} is not sure enough: {following.name} is asked.")
        async with aclosing(cast("Any", self._last(request, account))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _holding(
        self, held: _Held, request: ModelRequest, account: _Account
    ) -> AsyncIterator[Chunk]:
        """Ask a model and keep its answer; what can be told meanwhile is yielded."""
        chunks = held.model.stream(self._gauge.asking(request))
        try:
            async with aclosing(cast("Any", chunks)) as told:
                async for chunk in told:
                    match chunk:
                        case NoticeChunk():
                            yield chunk
                        case UsageChunk():
                            held.used = billed(chunk, held.model)
                            yield account.so_far(held.model, held.used)
                        case FinalChunk():
                            held.used = billed(chunk, held.model)
                            held.final = chunk
                        case _:
                            held.pieces.append(chunk)
        except ModelError as error:
            if error.kind == "request":
                raise
            account.tried.append({"model": held.model.name, "error": error.message})

    async def _verdict(self, held: _Held, request: ModelRequest) -> Verdict:
        if held.final is None:
            return Verdict(None, "it did not answer")
        if held.final.stop_reason in REFUSALS:
            return Verdict(None, "it refused")
        return await self._gauge.verdict(Answered(held.model, request, held.final))

    def _is_enough(self, verdict: Verdict) -> bool:
        return verdict.score is not None and verdict.score >= self._threshold

    def _told(self, member: ChatModel, verdict: Verdict) -> JsonObject:
        score = None if verdict.score is None else round(verdict.score, 4)
        why = {"why": verdict.why} if verdict.why else {}
        return {"model": member.name, "confidence": score, "threshold": self._threshold, **why}

    async def _last(self, request: ModelRequest, account: _Account) -> AsyncIterator[Chunk]:
        last = self.members[-1]
        async with aclosing(cast("Any", last.stream(request))) as chunks:
            async for chunk in chunks:
                match chunk:
                    case UsageChunk():
                        yield account.so_far(last, billed(chunk, last))
                    case FinalChunk():
                        account.used.append(billed(chunk, last))
                        yield self._ended(chunk, last, account)
                    case _:
                        yield chunk

    def _ended(self, final: FinalChunk, member: ChatModel, account: _Account) -> FinalChunk:
        return replace(
            final,
            usage=total(account.used),
            model=final.model or member.name,
            facts={**final.facts, "cascade": account.tried},
        )
