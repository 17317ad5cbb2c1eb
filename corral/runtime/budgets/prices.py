"""What hosted models cost, from the table that the package genai-prices brings. Nothing is fetched.

A price that the settings give (``[prices."openai:NAME"]``) is taken instead. Models on this
machine cost nothing.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from corral.errors import ConfigError
from corral.policies.prices import FREE, Price, Rates, Tier, Tokens
from corral.runtime.effects import Spend

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

_TEXT = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached": "cache_read_mtok",
    "written": "cache_write_mtok",
}
"""Our names for the rates of text, and the library's."""

_PER_CALL = ("requests_kcount", "input_text_messages_kcount")
"""Rates for a call as a whole, which a ``Price`` cannot say."""


def listed_price(
    model: str, *, provider: str | None = None, url: str | None = None
) -> Price | None:
    """The list price of a model at a provider, named or known by its ``url``.

    Dated snapshots of a model are found by their name. ``None`` when nobody knows the price.
    A server on this machine costs nothing.
    """
    if provider is None and url is not None and _is_here(url):
        return FREE
    from genai_prices.data_snapshot import get_snapshot  # heavy: a table of 1.6 MB

    try:
        _, found = get_snapshot().find_provider_model(model, None, provider, url)
    except LookupError:
        return None
    return _price(found.get_prices(datetime.now(UTC)))


def billed(spend: Spend, price: Price) -> Spend:
    """What was used, at a price, where a model has told its tokens and not what they cost."""
    if spend.cost_usd:
        return spend
    tokens = Tokens(
        spend.input_tokens, spend.output_tokens, spend.cached_tokens, spend.cache_write_tokens
    )
    return replace(spend, cost_usd=price.cost(tokens))


def unknown_price(model: str) -> ConfigError:
    """The error that a model's price is needed, and not known."""
    return ConfigError(
        f"Money is limited, and the price of {model} is not known.",
        hint=f'Say what it costs, in US dollars for a million tokens:\n[prices."{model}"]\n'
        "input = 1.0\noutput = 2.0",
    )


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _price(listed: ModelPrice) -> Price | None:
    """The library's price as ours; ``None`` for one with parts that ours does not have."""
    fields = {ours: getattr(listed, theirs) for ours, theirs in _TEXT.items()}
    if fields["input"] is None or fields["output"] is None:
        return None
    if any(getattr(listed, name) for name in _PER_CALL):
        return None
    steps = {tier.start for field in fields.values() for tier in getattr(field, "tiers", ())}
    tiers = tuple(
        Tier(above=start, **_rates(fields, start).model_dump()) for start in sorted(steps)
    )
    return Price(**_rates(fields, None).model_dump(), tiers=tiers)


def _rates(fields: dict[str, Any], above: int | None) -> Rates:
    """The rates that hold above so many tokens of input."""
    return Rates.model_validate({name: _rate(field, above) for name, field in fields.items()})


def _rate(field: Any, above: int | None) -> float | None:
    if field is None or not hasattr(field, "tiers"):
        return None if field is None else float(field)
    reached = [tier.price for tier in field.tiers if above is not None and above >= tier.start]
    return float(reached[-1] if reached else field.base)
