"""Patterns for names and paths as git has them, matched in linear time.

Regular expressions made of patterns with many stars can take for ever; a star that goes back only
to the star before it cannot.

Source: gitignore(5), "Pattern format".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

_SPECIAL = frozenset("*?[\\")
Test = Callable[[str], bool]


class Glob(NamedTuple):
    """One pattern: its segments, and what it asks of a path besides."""

    segments: tuple[str, ...]
    negated: bool
    folders_only: bool
    anchored: bool

    def fits(self, parts: Sequence[str], *, folder: bool) -> bool:
        """Whether the path of these components below the pattern's folder is meant."""
        if self.folders_only and not folder:
            return False
        if not self.anchored:
            return segment(self.segments[0])(parts[-1])
        return _fits_segments(self.segments, parts)


def parse(line: str) -> Glob | None:
    """A line of a ``.gitignore`` file; ``None`` for one that names nothing."""
    line = line.rstrip("\r\n")
    while line.endswith(" ") and not line.endswith("\\ "):
        line = line[:-1]
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    body = line[1:] if negated else line
    folders_only = body.endswith("/")
    anchored = "/" in body.rstrip("/")
    segments = [part for part in body.strip("/").split("/") if part]
    if not segments:
        return None
    if segments[-1] == "**" and len(segments) > 1:
        segments.append("*")  # what is in a folder, not the folder
    return Glob(tuple(segments), negated, folders_only, anchored)


@lru_cache(maxsize=4096)
def segment(pattern: str) -> Test:
    """The test of one name against one segment of a pattern."""
    if not _SPECIAL & set(pattern):
        return pattern.__eq__
    if pattern == "*":
        return lambda _: True
    rest = pattern[1:]
    if pattern[0] == "*" and not _SPECIAL & set(rest):
        return lambda name: name.endswith(rest)
    tokens = _tokens(pattern)
    return lambda name: _stars(tokens, name, lambda test, character: test(character))


def _fits_segments(segments: tuple[str, ...], parts: Sequence[str]) -> bool:
    tests = tuple(None if one == "**" else segment(one) for one in segments)
    return _stars(tests, parts, lambda test, part: test(part))


def _stars(
    tests: Sequence[Test | None], items: Sequence[str], fits: Callable[[Test, str], bool]
) -> bool:
    """Whether the tests, one an item, fit all items; ``None`` stands for any number of items."""
    at = item = 0
    star = mark = -1
    while item < len(items):
        test = tests[at] if at < len(tests) else None
        if at < len(tests) and test is None:
            star, mark, at = at, item, at + 1
        elif test is not None and fits(test, items[item]):
            at, item = at + 1, item + 1
        elif star >= 0:
            mark += 1
            at, item = star + 1, mark
        else:
            return False
    return all(test is None for test in tests[at:])


def _tokens(pattern: str) -> tuple[Test | None, ...]:
    """A test for each character that a pattern names; ``None`` for a star."""
    tokens: list[Test | None] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "*":
            tokens += [None] if not tokens or tokens[-1] is not None else []
        elif character == "?":
            tokens.append(lambda _: True)
        elif character == "[" and (end := _end_of_class(pattern, at)) > 0:
            tokens.append(_class(pattern[at + 1 : end]))
            at = end
        else:
            if character == "\\" and at + 1 < len(pattern):
                at += 1
            tokens.append(pattern[at].__eq__)
        at += 1
    return tuple(tokens)


def _end_of_class(pattern: str, start: int) -> int:
    first = start + 1 + (pattern[start + 1 : start + 2] in ("!", "^"))
    return pattern.find("]", first + 1)


def _class(body: str) -> Test:
    negated = body[0] in "!^"
    body = body[1:] if negated else body
    ranges = []
    at = 0
    while at < len(body):
        wide = at + 2 < len(body) and body[at + 1] == "-"
        ranges.append((body[at], body[at + 2] if wide else body[at]))
        at += 3 if wide else 1
    return lambda c: any(low <= c <= high for low, high in ranges) is not negated
