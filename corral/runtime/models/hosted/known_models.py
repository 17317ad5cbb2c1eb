"""How much hosted models hold, and which protocol they are asked by, where they are known.

Windows agree with the model profiles that langchain ships; a test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Provider = Literal["openai", "anthropic"]

DEFAULT_WINDOWS: Mapping[Provider, int] = {"openai": 128_000, "anthropic": 200_000}
"""Tokens that a request and its answer may have together, where the model is not known."""


def window_of(provider: Provider, model: str) -> int:
    """How many tokens a request and its answer may have together."""
    for pattern, window in _WINDOWS:
        if re.match(pattern, model):
            return window
    return DEFAULT_WINDOWS[provider]


def speaks_responses(model: str) -> bool:
    """Whether an OpenAI model is asked by the Responses API: those that reason.

    Only there their reasoning goes on from one request to the next.
    """
    return re.match(r"(gpt-([5-9]|\d\d)(?!.*-chat)|o\d|codex)", model) is not None


def takes_images(model: str) -> bool:
    """Whether a model is known to take images, where its protocol has them."""
    return re.match(_SIGHTED, model) is not None


_SIGHTED = r"claude-|gpt-([5-9]|\d\d)|gpt-4(o|\.1|-turbo)|o[1-9](?!-mini)|o[4-9]-mini|codex"

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
