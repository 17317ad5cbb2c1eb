"""What people say, in the words that tools say it in.

Keywords find nothing where a request and a definition mean the same by other words, and short
requests have few words. So a request is widened: by the terms that go with those in it, and by what
the things in it are, such as an address or the name of a file. Widening adds to what is looked for
and takes nothing away; what was said itself counts most.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from corral.ranking import stem, terms

MAX_REQUEST = 2000
"""How many characters of a request count: its beginning."""

WIDENED = 0.8
"""What a term that was added counts, of one that was said."""

_GOES_WITH = Path(__file__).with_name("wording.txt")
"""On each line what tools say, then what people say: ``words of tools: words of people``."""

_SHAPES = (
    (r"https?://|\bwww\.", "url page website"),
    (r"[\w.+-]+@[\w-]+\.\w", "email mail address"),
    (r"[\w.+-]+@(?![\w-])", "email mail sender"),
    (r"(?<!\w)#[a-z]", "channel message"),
    (r"(?<!\w)#\d", "pull request issue number"),
    (r"\b[A-Z][A-Z]+-\d", "jira ticket issue key"),
    (r"\b\d{1,3}(?:\.\d{1,3}){3}\b", "ip address"),
    (r"\b[\w-]+\.(?:py|js|ts|md|txt|ya?ml|json|toml|ini|conf|cfg|sh)\b|(?<!\w)\.?/\w", "file path"),
    (r"\b[\w-]+\.csv\b", "csv file table rows data"),
    (r"\b[\w-]+\.pdf\b", "pdf"),
    (r"\b[\w-]+\.(?:mp3|wav|ogg|flac)\b", "audio file speech"),
    (r"\b[\w-]+\.(?:mp4|mov|mkv|webm)\b", "video file"),
    (r"\b[\w-]+\.(?:png|jpe?g|webp|gif)\b", "image picture file"),
    (r"\b[\w-]+\.docx?\b", "word document file"),
    (r"\b[\w-]+\.xlsx?\b", "excel workbook sheet"),
    (r"\b[\w-]+\.(?:zip|tar|tgz|gz|7z|rar)\b", "archive unpack extract"),
    (
        r"\b\d+(?::\d\d)?\s?[ap]m\b|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b",
        "event date time",
    ),
    (r"\b[A-Z]{2}\s?\d{2,4}\b", "flight number"),
    (r"\d\s?%|\d\s?[+*/x^-]\s?\d|\^", "expression arithmetic"),
)


def widened(request: str) -> dict[str, float]:
    """The terms that a request is looked for by, and what each counts."""
    text = request[:MAX_REQUEST]
    said = dict.fromkeys(terms(text), 1.0)
    added = {term for one in said for term in _related().get(one, ())}
    added.update(_shapes(text))
    return {**dict.fromkeys(added, WIDENED), **said}


def _shapes(text: str) -> Iterator[str]:
    """What the things in a text are."""
    for pattern, words in _compiled():
        if pattern.search(text):
            yield from words


@cache
def _related() -> dict[str, frozenset[str]]:
    """The terms of tools that go with a term of people's."""
    found: dict[str, set[str]] = {}
    for line in _GOES_WITH.read_text("utf-8").splitlines():
        ours, _, theirs = line.partition(":")
        theirs_too = {stem(word) for word in (*ours.split(), *theirs.split())}
        for term in theirs_too:
            found.setdefault(term, set()).update(map(stem, ours.split()))
    return {term: frozenset(words - {term}) for term, words in found.items()}


@cache
def _compiled() -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    return tuple((re.compile(pattern), tuple(terms(words))) for pattern, words in _SHAPES)
