"""Rank short texts by a query: BM25 over word stems, in pure Python.

Okapi BM25 as in Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond" (2009), with the never-negative idf of Lucene.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set

K1 = 1.2
B = 0.75

_WORD = re.compile(r"\w+")
# Scripts written without spaces: Han, Hiragana, Katakana, Thai, Lao, Khmer, Myanmar.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])"
)
_FUNCTION_WORDS = (
    "a about an and are as at be been but by can did do does for from had has have he her him his "
    "how i if in into is it its me my of on or our s she so t than that the their them then there "
    "these they this to us was we were what when where which who why will with would you "
    "your"
)
_STOP = frozenset(_FUNCTION_WORDS.split())


def terms(text: str) -> list[str]:
    """The searchable terms of a text, in order: stems of its words without function words.

    Characters of scripts that are written without spaces are terms by themselves.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = _WORD.findall(_UNSPACED.sub(r" \1 ", folded))
    return [stem(word) for word in words if word not in _STOP]


def stem(word: str) -> str:
    """An English word without its plural, ``-ing`` or ``-ed``; other words stay as they are."""
    if not (word.isascii() and word.isalpha()):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for suffix in ("ing", "ed"):
        root = word.removesuffix(suffix)
        if root != word and len(root) > 2 and any(vowel in root for vowel in "aeiouy"):
            doubled = len(root) > 3 and root[-1] == root[-2] and root[-1] not in "lsz"
            word = root[:-1] if doubled else root
            break
    # "like", "liked" and "liking" meet without their last e.
    return word.removesuffix("e") if len(word) > 3 else word


def rank(query: Sequence[str], documents: Mapping[str, Counter[str]]) -> list[str]:
    """The ids of the documents that share a term with the query, best first.

    ``documents`` maps an id to its terms and their counts. Among equals, the later one in the
    mapping comes first.
    """
    scores = Bm25(documents, only=set(query)).scores(query)
    order = {key: place for place, key in enumerate(documents)}
    return sorted(scores, key=lambda key: (-scores[key], -order[key]))


class Bm25:
    """Documents, ready to be asked for: what BM25 needs of them is counted once.

    ``documents`` maps an id to its terms and their counts; with ``only``, no other terms can be
    asked for.
    """

    def __init__(self, documents: Mapping[str, Counter[str]], only: Set[str] | None = None) -> None:
        lengths = {key: counts.total() for key, counts in documents.items()}
        average = max(1.0, sum(lengths.values()) / max(1, len(documents)))
        self._count = len(documents)
        self._holding: dict[str, list[tuple[str, float]]] = {}
        for key, counts in documents.items():
            norm = K1 * (1 - B + B * lengths[key] / average)
            for term in counts if only is None else only & counts.keys():
                weight = counts[term] * (K1 + 1) / (counts[term] + norm)
                self._holding.setdefault(term, []).append((key, weight))

    def scores(self, query: Iterable[str]) -> dict[str, float]:
        """The documents that share a term with the query, and how well they fit it."""
        return self.weighted_scores(dict.fromkeys(query, 1.0))

    def weighted_scores(self, query: Mapping[str, float]) -> dict[str, float]:
        """``scores``, where each term of the query counts as much as its weight says."""
        found: dict[str, float] = {}
        # Sorted, so that the sum is the same on every machine.
        for term in sorted(query):
            holding = self._holding.get(term, ())
            for key, weight in holding:
                found[key] = found.get(key, 0.0) + query[term] * self._idf(len(holding)) * weight
        return found

    def _idf(self, holding: int) -> float:
        return math.log(1 + (self._count - holding + 0.5) / (holding + 0.5))
