"""What several calls have used together, and what the next one may cost at most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace

from corral.policies.prices import Price, Rates, Tier, Tokens
from corral.runtime.models.contract import (
    ChatModel,
    FinalChunk,
    Manifold,
    Priced,
    Usage,
    UsageChunk,
)


def total(usages: Iterable[Usage]) -> Usage:
    """The sum of all."""
    found = list(usages)
    sums = {one.name: sum(getattr(usage, one.name) for usage in found) for one in fields(Usage)}
    return Usage(**sums)


def price_of(model: ChatModel) -> Price | None:
    """What a model says that it costs; ``None`` when nobody knows."""
    return model.price if isinstance(model, Priced) else None


def answers_of(model: ChatModel) -> int:
    """How many answers one request to a model may lead to."""
    return model.most_answers if isinstance(model, Manifold) else 1


def billed(chunk: UsageChunk | FinalChunk, model: ChatModel) -> Usage:
    """What ``model`` has used, with what it cost where it has told its tokens alone.

    One over others tells that too: nothing, where one of them was asked that is free.
    """
    usage, price = chunk.usage, price_of(model)
    if chunk.model or usage.cost_usd or price is None:
        return usage
    tokens = Tokens(
        usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.cache_write_tokens
    )
    return replace(usage, cost_usd=price.cost(tokens))


def dearest(models: Sequence[ChatModel]) -> Price | None:
    """The price of a call that one of them answers, whichever; ``None`` if one has none."""
    return _merged(models, max)


def of_all(models: Sequence[ChatModel]) -> Price | None:
    """The price of a call that every one of them is asked; ``None`` if one has none."""
    return _merged(models, sum)


def _merged(models: Sequence[ChatModel], merge: Callable[[list[float]], float]) -> Price | None:
    known = [price_of(model) for model in models]
    prices = [price for price in known if price is not None]
    if len(prices) < len(known):
        return None
    steps = sorted({tier.above for price in prices for tier in price.tiers})
    tiers = tuple(
        Tier(above=above, **_rates([_at(price, above) for price in prices], merge))
        for above in steps
    )
    return Price(**_rates(prices, merge), tiers=tiers)


def _at(price: Price, above: int) -> Rates:
    reached = [tier for tier in price.tiers if tier.above <= above]
    return max(reached, key=lambda tier: tier.above) if reached else price


def _rates(rates: Sequence[Rates], merge: Callable[[list[float]], float]) -> dict[str, float]:
    # The dearest kind of input: a bound has to hold whatever a cache gives or takes.
    return {
        "input": merge([one.dearest_input for one in rates]),
        "output": merge([one.output for one in rates]),
    }
