"""Values that stand in a text as they are: what the user has asked for, word by word.

A value counts as taken from a text only as a whole: ``example.com`` does not stand in
``bob@example.com``, nor ``5`` in ``15``. Upper and lower case at the start of words and different
spaces between them are the same value; anything else is another one.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from corral.jsontypes import Json
from corral.policies.patterns.urls import read_plainly

MAX_VALUE = 4_000
"""The longest value that is looked for, in characters; a longer one is taken from nowhere."""

# Letters of scripts that put no space between words count as boundaries.
_WORD = r"[^\W\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]"
_BEFORE = rf"(?<!{_WORD})(?<![@./\\:+%~=&?#*-])(?<!\d,)"
_AFTER = rf"(?!{_WORD})(?![@/\\%~=&#*+-])(?![.:?!,]{_WORD})(?!['\u2019](?![sS]\b){_WORD})"
_STARTS, _ENDS = re.compile(_BEFORE), re.compile(_AFTER)
_NUMBER = re.compile(r"(?<![\w.,=&/%])[-+\u2212]?\d[\d.,'\u2019\u00a0\u202f]*")
_GROUPED = (  # where a comma groups thousands, and where a point does
    re.compile(r"([-+]?\d{1,3}(?:[,'\u2019\u00a0\u202f]\d{3})+|[-+]?\d+)(?:\.(\d+))?"),
    re.compile(r"([-+]?\d{1,3}(?:[.'\u2019\u00a0\u202f]\d{3})+|[-+]?\d+)(?:,(\d+))?"),
)
_WEB = re.compile(r"https?://", re.IGNORECASE)
_ORIGIN = re.compile(r"https?://[^/?#]+", re.IGNORECASE)


def stands_in(value: Json, texts: Sequence[str]) -> bool:
    """Whether a value, and all that it is made of, stands in one of the texts.

    ``None``, an empty text and an empty list say nothing, so they stand anywhere. A boolean stands
    nowhere.
    """
    return all(_leaf_stands_in(leaf, texts) for leaf in leaves(value))


def text_stands_in(value: str, texts: Sequence[str]) -> bool:
    """Whether a text stands in one of the others, as a whole."""
    if not value:
        return True
    if len(value) > MAX_VALUE:
        return False
    return any(_found(form, text) for form in _forms(value) for text in texts)


def number_stands_in(value: float, texts: Sequence[str]) -> bool:
    """Whether a number stands in one of the texts, however it groups its digits."""
    if not math.isfinite(value):
        return False
    wanted = Decimal(str(value))
    return any(wanted in _numbers(text) for text in texts)


@dataclass(frozen=True)
class Page:
    """A text that anybody may have; ``origin`` is ``https://host`` where it came from, or empty."""

    origin: str
    text: str


def link_stands_in(url: str, pages: Sequence[Page]) -> bool:
    """Whether a page holds a link to ``url``: the whole address, or its path on the same site.

    Of what stands in several pages no link is made, and only an address that every client reads
    alike is one: else a page could echo what it was asked for, in pieces or in disguise.
    """
    origin = origin_of(url if _WEB.match(url) else f"https://{url}")
    if "." not in origin and "[" not in origin:
        return False
    return any(_links_to(url, page) for page in pages)


def origin_of(text: str) -> str:
    """``https://host:port`` of an address of the web that has one reading, else an empty text."""
    found = _ORIGIN.match(text)
    return found[0] if found and read_plainly(found[0]) is not None else ""


def _links_to(url: str, page: Page) -> bool:
    texts = [html.unescape(page.text)]
    if text_stands_in(url, texts):
        return True
    path = url.removeprefix(page.origin)
    is_below = bool(page.origin) and path != url and path.startswith("/") and len(path) > 1
    return is_below and text_stands_in(path, texts)


def names_site(origin: str, texts: Sequence[str]) -> bool:
    """Whether a text holds an address on the site ``https://host:port``, or just its host."""
    host = re.sub(_WEB, "", origin)
    wanted = re.compile(
        rf"(?:(?<![\w.@/\\:%+~-]){re.escape(origin)}|{_BEFORE}{re.escape(host)})"
        rf"(?=[/?#]|{_AFTER})(?![.:@]{_WORD})(?!-)",
        re.IGNORECASE,
    )
    return any(wanted.search(text) for text in texts)


def leaves(value: Json) -> Iterator[Json]:
    """The texts, numbers, booleans and nulls that a value is made of; keys are texts of it, too."""
    todo: list[Any] = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            todo.extend(one)
            todo.extend(one.values())
        elif isinstance(one, list | tuple):
            todo.extend(one)
        else:
            yield one


def _leaf_stands_in(leaf: Json, texts: Sequence[str]) -> bool:
    match leaf:
        case None | "":
            return True
        case bool():
            return False
        case str():
            return text_stands_in(leaf, texts)
        case int() | float():
            return number_stands_in(leaf, texts)
        case _:
            return False


def _forms(value: str) -> tuple[str, ...]:
    """The ways in which people write a value: an address without its scheme, a path without ./."""
    plain = unicodedata.normalize("NFC", value)
    forms = [plain]
    site = _WEB.sub("", plain, count=1) if _WEB.match(plain) else None
    if site is not None:
        forms += [plain.removesuffix("/"), site, site.removesuffix("/")]
    elif plain.startswith("./"):
        forms.append(plain[2:])
    return tuple(dict.fromkeys(form for form in forms if form))


def _found(value: str, text: str) -> bool:
    return any(_stands_whole(value, source) for source in _readings(text))


def _stands_whole(value: str, source: str) -> bool:
    # The boundaries hold large classes of characters: with each value they would be compiled anew.
    wanted = re.compile(re.escape(value), re.IGNORECASE)
    starts = not value[0].isspace() and _needs_boundary(value[0])
    ends = _needs_boundary(value[-1])
    found = wanted.search(source)
    while found is not None:
        begins_here = not starts or _STARTS.match(source, found.start())
        ends_here = not ends or _ENDS.match(source, found.end())
        if begins_here and ends_here and _same(found[0], value):
            return True
        found = wanted.search(source, found.start() + 1)
    return False


def _needs_boundary(character: str) -> bool:
    return not unicodedata.category(character).startswith("Z")


@lru_cache(maxsize=256)
def _readings(text: str) -> tuple[str, ...]:
    """A text as it is, and with one space wherever it has several or a line ends."""
    plain = unicodedata.normalize("NFC", text)
    spaced = " ".join(plain.split())
    return (plain,) if spaced == plain else (plain, spaced)


def _same(found: str, value: str) -> bool:
    """Whether a value is what was found, but for the case that it is usually written in."""
    usual = (found.lower(), found.upper(), found.title(), found.capitalize())
    return value == found or value in usual or value == found[:1].upper() + found[1:]


@lru_cache(maxsize=256)
def _numbers(text: str) -> frozenset[Decimal]:
    """The numbers in a text, each in every way in which its commas and points can be read."""
    found: set[Decimal] = set()
    for match in _NUMBER.finditer(text):
        written = match[0].replace("\u2212", "-").rstrip(".,'\u2019\u00a0\u202f")
        for grouped in _GROUPED:
            if reading := grouped.fullmatch(written):
                whole = re.sub(r"[^\d+-]", "", reading[1])
                found.add(Decimal(f"{whole}.{reading[2] or 0}"))
    return frozenset(found)
