"""What hosted models cost and how much they hold, for the models that are known.

Prices are the providers' list prices of November 2026 for short prompts and the standard tier;
surcharges for very long prompts, and discounts for batches, are not in them. A model that is
not listed, or that answers at another address than its provider's own, costs 0.0 unless the
caller gives its ``Price``. Windows agree with the model profiles that langchain ships; a test
compares them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Provider = Literal["openai", "anthropic"]

DEFAULT_WINDOWS: Mapping[Provider, int] = {"openai": 128_000, "anthropic": 200_000}
"""Tokens that a request and its answer may have together, where the model is not known."""


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens.

    ``cached`` is for input that the provider had cached, ``written`` for input that it puts into
    its cache; ``None`` means as ``input``.
    """

    input: float
    output: float
    cached: float | None = None
    written: float | None = None

    def cost(self, usage: Mapping[str, Any]) -> float:
        """The price in US dollars of one call with langchain's ``usage_metadata``."""
        details = usage.get("input_token_details") or {}
        read = _count(details, "cache_read")
        written = sum(
            _count(details, key)
            for key in ("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
        )
        plain = max(0, _count(usage, "input_tokens") - read - written)
        dollars = (
            plain * self.input
            + read * (self.input if self.cached is None else self.cached)
            + written * (self.input if self.written is None else self.written)
            + _count(usage, "output_tokens") * self.output
        )
        return dollars / 1_000_000


FREE = Price(0.0, 0.0)


def price_of(model: str) -> Price:
    """The list price of a model, dated snapshots included; all zero when it is not known."""
    return _PRICES.get(re.sub(r"-(latest|20\d\d-?\d\d-?\d\d)$", "", model), FREE)


def window_of(provider: Provider, model: str) -> int:
    """How many tokens a request and its answer may have together."""
    for pattern, window in _WINDOWS:
        if re.match(pattern, model):
            return window
    return DEFAULT_WINDOWS[provider]


def _count(data: Mapping[str, Any], key: str) -> int:
    return int(data.get(key) or 0)


def _openai(price: float, cached: float, output: float) -> Price:
    return Price(price, output, cached=cached)


def _claude(price: float, output: float, cached: float = 0.1) -> Price:
    """Anthropic bills cache hits at a share of the input price, cache writes at 1.25 times it."""
    return Price(price, output, cached=price * cached, written=price * 1.25)


_PRICES: Mapping[str, Price] = {
    "gpt-4o": _openai(2.5, 1.25, 10),
    "gpt-4o-mini": _openai(0.15, 0.075, 0.6),
    "gpt-4.1": _openai(2, 0.5, 8),
    "gpt-4.1-mini": _openai(0.4, 0.1, 1.6),
    "gpt-4.1-nano": _openai(0.1, 0.025, 0.4),
    "gpt-5": _openai(1.25, 0.125, 10),
    "gpt-5-mini": _openai(0.25, 0.025, 2),
    "gpt-5-nano": _openai(0.05, 0.005, 0.4),
    "gpt-5.1": _openai(1.25, 0.125, 10),
    "gpt-5.2": _openai(1.75, 0.175, 14),
    "gpt-5.4": _openai(2.5, 0.25, 15),
    "gpt-5.4-mini": _openai(0.75, 0.075, 4.5),
    "gpt-5.5": _openai(5, 0.5, 30),
    "gpt-5.6-luna": _openai(0.2, 0.02, 1.2),
    "gpt-5.6-sol": _openai(4, 0.4, 20),
    "gpt-5.6-terra": _openai(2, 0.2, 12),
    "gpt-6-astra": _openai(10, 1, 50),
    "gpt-6-luna": _openai(0.1, 0.01, 0.5),
    "gpt-6-sol": _openai(2, 0.2, 10),
    "gpt-6.1-sol": _openai(2, 0.1, 10),
    "o3": _openai(2, 0.5, 8),
    "o4-mini": _openai(1.1, 0.275, 4.4),
    "claude-fable-5": _claude(10, 50),
    "claude-fable-5-1": _claude(10, 50, cached=0.025),
    "claude-haiku-4-5": _claude(1, 5),
    "claude-haiku-5-5": _claude(0.1, 0.5),
    "claude-opus-4-5": _claude(5, 25),
    "claude-opus-4-6": _claude(5, 25),
    "claude-opus-4-7": _claude(5, 25),
    "claude-opus-4-8": _claude(5, 25),
    "claude-opus-5": _claude(5, 25),
    "claude-opus-5-5": _claude(4, 20, cached=0.05),
    "claude-sonnet-4-5": _claude(3, 15),
    "claude-sonnet-4-6": _claude(3, 15),
    "claude-sonnet-5": _claude(2, 10),
    "claude-sonnet-5-5": _claude(2, 10, cached=0.05),
}

_WINDOWS: tuple[tuple[str, int], ...] = (
    (r"gpt-3\.5", 16_385),
    (r"gpt-4$|gpt-4-0", 8_192),
    (r"gpt-4\.1", 1_047_576),
    (r"gpt-5\.3-codex-spark", 128_000),
    (r"gpt-5\.4-(mini|nano)", 400_000),
    (r"gpt-5\.[4-9]|gpt-6", 1_050_000),
    (r"gpt-5", 400_000),
    (r"o[134]($|-)", 200_000),
    (r"claude-(opus|sonnet)-4-[6-9]", 1_000_000),
    (r"claude-[a-z]+-5", 1_000_000),
)
