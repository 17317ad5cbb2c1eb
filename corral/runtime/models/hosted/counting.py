"""What an answer has used: as the provider says, and estimated until it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from corral.policies.prices import Price, Tokens
from corral.runtime.models.contract import Usage

_WRITTEN_TO_CACHE = (
    "cache_creation",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
)
_TIERS = ("", "priority_", "flex_")
"""What langchain puts before the names of details for OpenAI's other service tiers."""

CHARS_PER_TOKEN = 4


def usage_of(told: Mapping[str, Any], estimated: Usage, price: Price) -> Usage:
    """The usage from langchain's ``usage_metadata``; estimated where the provider tells nothing."""
    given = told.get("input_token_details") or {}
    thought = told.get("output_token_details") or {}
    return priced(
        Usage(
            input_tokens=_count(told, "input_tokens") or estimated.input_tokens,
            output_tokens=_count(told, "output_tokens") or estimated.output_tokens,
            cached_tokens=_sum(given, "cache_read"),
            cache_write_tokens=_sum(given, *_WRITTEN_TO_CACHE),
            reasoning_tokens=_sum(thought, "reasoning"),
        ),
        price,
    )


def priced(usage: Usage, price: Price) -> Usage:
    """The usage with what it costs."""
    tokens = Tokens(
        input=usage.input_tokens,
        output=usage.output_tokens,
        cached=usage.cached_tokens,
        written=usage.cache_write_tokens,
    )
    return Usage(**{**vars(usage), "cost_usd": price.cost(tokens)})


def _sum(details: Mapping[str, Any], *names: str) -> int:
    return sum(_count(details, tier + name) for name in names for tier in _TIERS)


def _count(data: Mapping[str, Any], key: str) -> int:
    return max(0, int(data.get(key) or 0))
