"""Whether two prompts that are alike may have the same answer.

Vectors of what a text means are close for texts that differ in one name, one number or one *not*
(the bundled model gives the capitals of France and of Germany 0.997). So these have to be the same.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence

Vector = Sequence[float]

_WORD = re.compile(r"[^\s,;:!?()\[\]{}<>\"“”„«»]+")
_BEGINS = re.compile(r"[.!?\n]\s*\Z|\A\s*\Z")
_APOSTROPHE = "\u2019"

_NEGATIONS = frozenset(
    (
        *("no", "not", "never", "none", "nothing", "nobody", "without", "cannot", "except"),
        *("isn't", "aren't", "wasn't", "don't", "doesn't", "didn't", "won't", "can't"),
        *("shouldn't", "nicht", "kein", "keine", "nie", "ohne", "ne", "pas", "non", "jamais"),
        *("sans", "sin", "nunca"),
    )
)
_OPENERS = frozenset(
    (
        *("what", "what's", "which", "who", "who's", "whose", "where", "when", "why", "how"),
        *("is", "are", "was", "were", "do", "does", "did", "can", "could", "would", "will"),
        *("should", "has", "have", "please", "tell", "give", "show", "name", "say", "list"),
        *("explain", "describe", "write", "the", "a", "an", "in", "on", "at", "it", "this"),
        *("that", "there", "and", "but", "so", "if", "for", "of", "to", "you", "we"),
    )
)
"""Words that a sentence begins with and that name nothing."""


def packed(vector: Vector) -> bytes:
    """A vector as it is stored: 4 bytes a number."""
    return array("f", vector).tobytes()


def unpacked(data: bytes) -> Vector:
    """The vector that ``packed`` wrote."""
    vector = array("f")
    vector.frombytes(data)
    return vector


def cosine(one: Vector, other: Vector) -> float:
    """The similarity of two vectors of length 1; of those of different models there is none."""
    if len(one) != len(other):
        return 0.0
    return sum(a * b for a, b in zip(one, other, strict=True))


def marks(text: str) -> tuple[str, ...]:
    """What must be the same in prompts that mean the same, in order.

    That is what has a digit or a sign in it (numbers, paths, identifiers), words with a capital
    (names), and negations.
    """
    text = text.replace(_APOSTROPHE, "'")
    found = []
    for word in _WORD.finditer(text):
        plain = word[0].strip(".'`").removesuffix("'s")
        begins = _BEGINS.search(text, max(0, word.start() - 8), word.start()) is not None
        if plain and _is_mark(plain, begins=begins):
            found.append(plain.casefold())
    return tuple(found)


def _is_mark(word: str, *, begins: bool) -> bool:
    if word.casefold() in _NEGATIONS or not word.replace("'", "").replace("-", "").isalpha():
        return True
    if word == word.lower() or word == "I":
        return False
    return not (begins and word.casefold() in _OPENERS)
