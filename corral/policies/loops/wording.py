"""What a model says, compared loosely: twice the same with small changes is the same."""

from __future__ import annotations

import re

_WORDS = re.compile(r"[^\W\d_]+|\d+")
_READ = 4000
_TAIL = 1500

_ALIKE = 0.85
"""Share of common words from which two texts say the same."""

_ROUNDS = 6
"""How often a passage stands one after the other before a text repeats itself."""

_PASSAGE_WORDS = 3
"""Words that a passage has at least; lines and columns of a table repeat less than that."""


def words_of(text: str) -> frozenset[str]:
    """The words of a text, without case, punctuation and numbers."""
    found = _WORDS.findall(text[:_READ].casefold())
    return frozenset("0" if word.isdigit() else word for word in found)


def says_the_same(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two texts have nearly all words in common (Jaccard)."""
    return len(one & other) >= _ALIKE * len(one | other)


def repeated_passage(text: str) -> str | None:
    """The passage that a text ends with again and again, as of a model that cannot stop.

    Linear: the shortest period of the last words (Knuth, Morris and Pratt 1977).
    """
    words = _WORDS.findall(text[-_TAIL:].casefold())
    words.reverse()
    # How far the reversed text repeats itself, for each of its beginnings.
    borders = [0] * len(words)
    for at in range(1, len(words)):
        length = borders[at - 1]
        while length and words[at] != words[length]:
            length = borders[length - 1]
        borders[at] = length + (words[at] == words[length])
        period = at + 1 - borders[at]
        if period >= _PASSAGE_WORDS and at + 1 >= _ROUNDS * period:
            return " ".join(reversed(words[:period]))
    return None
