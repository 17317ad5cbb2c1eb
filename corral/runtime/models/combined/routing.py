"""A route: rules, of which the first that fits a request says which model is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, cast

from corral.jsontypes import JsonObject
from corral.policies.prices import Price
from corral.runtime.models.combined.identity import identity_of_all
from corral.runtime.models.combined.members import OverMembers
from corral.runtime.models.combined.settings import RouteRule
from corral.runtime.models.combined.sizes import (
    has_images,
    newest_words,
    request_tokens,
    words_of,
)
from corral.runtime.models.combined.usage import answers_of, billed, dearest, price_of
from corral.runtime.models.contract import ChatModel, Chunk, FinalChunk, ModelRequest, UsageChunk

ANSWER = 1000
"""Tokens of an answer whose length nobody has said, to compare what models would take for it."""


@dataclass(frozen=True)
class Choice:
    """The model that a request goes to, and why: the number of the rule, or the default."""

    model: ChatModel
    because: str


class Route(OverMembers):
    """A ``ChatModel`` over others, which stay the caller's. ``models`` are by reference."""

    def __init__(
        self, name: str, rules: Iterable[RouteRule], default: str, models: Mapping[str, ChatModel]
    ) -> None:
        super().__init__(name, models.values())
        self._rules = tuple(rules)
        self.default = models[default]
        self._models = models

    @property
    def price(self) -> Price | None:
        """The dearest of its models'."""
        return dearest(self.members)

    @property
    def most_answers(self) -> int:
        """See ``Manifold.most_answers``."""
        return max(answers_of(one) for one in self.members)

    @property
    def identity(self) -> JsonObject | None:
        """See ``Identified.identity``: ``None`` where it depends on who asks, too."""
        if any(rule.agents or rule.tags for rule in self._rules):
            return None
        rules = [rule.model_dump() for rule in self._rules]
        return identity_of_all([self.default, *self.members], rules)

    def choose(self, request: ModelRequest) -> Choice:
        """The model that a request goes to."""
        for number, rule in enumerate(self._rules, start=1):
            if _fits(rule, request):
                targets = [self._models[one] for one in rule.targets]
                return Choice(_cheapest(targets, request), f"rule {number}")
        return Choice(self.default, "default")

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """See ``ChatModel.stream``. ``facts["routed"]`` says where it went and by which rule."""
        choice = self.choose(request)
        async with aclosing(cast("Any", choice.model.stream(request))) as chunks:
            async for chunk in chunks:
                yield _told(chunk, choice)


def _told(chunk: Chunk, choice: Choice) -> Chunk:
    if not isinstance(chunk, UsageChunk | FinalChunk):
        return chunk
    usage, name = billed(chunk, choice.model), chunk.model or choice.model.name
    if isinstance(chunk, UsageChunk):
        return UsageChunk(usage, name)
    routed = {"to": choice.model.name, "because": choice.because}
    facts = {**chunk.facts, "routed": [routed, *chunk.facts.get("routed", ())]}
    return replace(chunk, usage=usage, model=name, facts=facts)


def _fits(rule: RouteRule, request: ModelRequest) -> bool:
    return _fits_kind(rule, request) and _fits_size(rule, request) and _fits_words(rule, request)


def _fits_kind(rule: RouteRule, request: ModelRequest) -> bool:
    facts = (
        (rule.tools, bool(request.tools)),
        (rule.images, rule.images is not None and has_images(request)),
        (rule.reasoning, request.reasoning not in (None, "none")),
    )
    if any(wanted is not None and wanted != is_so for wanted, is_so in facts):
        return False
    named = (
        (rule.agents, {request.agent}),
        (rule.purposes, {request.purpose}),
        (rule.tags, set(request.tags)),
    )
    return all(not wanted or not given.isdisjoint(wanted) for wanted, given in named)


def _fits_size(rule: RouteRule, request: ModelRequest) -> bool:
    if rule.min_tokens is None and rule.max_tokens is None:
        return True
    tokens = request_tokens(request)
    return (rule.min_tokens or 0) <= tokens and (
        rule.max_tokens is None or tokens <= rule.max_tokens
    )


def _fits_words(rule: RouteRule, request: ModelRequest) -> bool:
    if not rule.words:
        return True
    said = newest_words(request)
    return any(words_of(word) in said for word in rule.words)


def _cheapest(models: list[ChatModel], request: ModelRequest) -> ChatModel:
    """The cheapest that has room for the request; of those without a known price the first."""
    if len(models) == 1:
        return models[0]
    tokens = request_tokens(request)
    answer = request.sampling.max_tokens or ANSWER
    roomy = [one for one in models if one.context_window >= tokens + answer]

    def cost(model: ChatModel) -> float:
        price = price_of(model)
        return float("inf") if price is None else price.at_most(tokens, answer)

    return min(roomy or [max(models, key=lambda one: one.context_window)], key=cost)
