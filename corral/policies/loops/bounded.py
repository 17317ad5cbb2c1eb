"""Memories that do not grow with a run: the newest so many are kept."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


def remember(known: OrderedDict[_K, _V], key: _K, value: _V, most: int) -> None:
    """Put it in as the newest, and let the oldest go when there are more than ``most``."""
    known[key] = value
    known.move_to_end(key)
    if len(known) > most:
        known.popitem(last=False)
