"""Searches texts for somebody's patterns, in bounded time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import regex  # type: ignore[import-untyped]  # it has no stubs

from corral.tools.bounded_validators import matches

_LONGEST_BACKTRACKING = 500
_SECONDS = 0.2


class PatternTimeoutError(Exception):
    """A pattern took too long."""


def usable(pattern: str) -> bool:
    """Whether ``found`` can search for it at all."""
    return matches(pattern, "") is not None or _backtracking(pattern) is not None


def found(pattern: str, text: str) -> bool:
    """Whether a pattern occurs in a text, in linear time, or in a fifth of a second.

    What the linear engine does not know (looking around, back-references) goes to one that gives
    up. Raises ``PatternTimeoutError``.
    """
    matched = matches(pattern, text)
    if matched is not None:
        return matched
    compiled = _backtracking(pattern)
    try:
        return compiled is None or compiled.search(text, timeout=_SECONDS) is not None
    except TimeoutError:
        raise PatternTimeoutError from None


@lru_cache(maxsize=64)
def _backtracking(pattern: str) -> Any:
    if len(pattern) > _LONGEST_BACKTRACKING:
        return None
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError):
        return None
