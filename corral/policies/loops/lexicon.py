"""Lists of words, written as a text."""

from __future__ import annotations


def lexicon(words: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(words.split())
