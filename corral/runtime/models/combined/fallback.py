"""A chain of models: the next is asked when one fails before its answer has begun to be shown.

What makes the next one be asked: a server that is not there, a limit, overload, a key that is not
accepted, any other failure of a model. What does not: a request that is wrong whoever is asked, and
a failure after a part of the answer was shown, because nothing is shown twice. A request that is
too long for one goes to those that can read more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, cast

from corral.jsontypes import JsonObject
from corral.policies.prices import Price
from corral.runtime.models.combined.contest import ONE_BY_ONE, ChainTerms, Contest
from corral.runtime.models.combined.identity import identity_of_all
from corral.runtime.models.combined.members import OverMembers
from corral.runtime.models.combined.usage import answers_of, dearest, of_all
from corral.runtime.models.contract import ChatModel, Chunk, ModelRequest


class Fallback(OverMembers):
    """A ``ChatModel`` over others, which stay the caller's. ``members`` are in order."""

    def __init__(
        self, name: str, members: Sequence[ChatModel], terms: ChainTerms = ONE_BY_ONE
    ) -> None:
        super().__init__(name, members)
        self._terms = terms

    @property
    def price(self) -> Price | None:
        """The dearest of its members', as one of them answers; with a hedge two are asked."""
        return dearest(self.members) if self._terms.hedge is None else of_all(self.members)

    @property
    def most_answers(self) -> int:
        """See ``Manifold.most_answers``."""
        each = [answers_of(one) for one in self.members]
        return max(each) if self._terms.hedge is None else sum(each)

    @property
    def identity(self) -> JsonObject | None:
        """See ``Identified.identity``."""
        return identity_of_all(self.members, "fallback")

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """See ``ChatModel.stream``. ``facts["fallbacks"]`` says who did not answer, and why."""
        contest = Contest(self.members, request, self._terms)
        async with aclosing(cast("Any", contest.chunks())) as chunks:
            async for chunk in chunks:
                yield chunk
