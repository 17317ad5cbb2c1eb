r"""Glob patterns on texts: ``*`` stands for any characters, ``?`` for one, ``\*`` for a star.

Nothing else is special, so a pattern matches no more than it says. Matching takes time linear in
the text for each part of the pattern: no text that a model writes can make it slow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

_UNIT = re.compile(r"\\[*?\\]|.", re.DOTALL)


@dataclass(frozen=True)
class Glob:
    """A compiled pattern: what stands between its stars, each piece of a fixed length."""

    pieces: tuple[tuple[re.Pattern[str], int], ...]

    def matches(self, text: str) -> bool:
        """Whether the whole text fits the pattern."""
        (head, head_length), (tail, tail_length) = self.pieces[0], self.pieces[-1]
        if len(self.pieces) == 1:
            return head.fullmatch(text) is not None
        position, end = head_length, len(text) - tail_length
        if position > end or not head.match(text) or not tail.match(text, end):
            return False
        for piece, _ in self.pieces[1:-1]:
            found = piece.search(text, position, end)
            if found is None:
                return False
            position = found.end()
        return True


@lru_cache(maxsize=8192)
def compile_glob(pattern: str) -> Glob:
    """Compile a pattern. Every text is a valid pattern."""
    pieces: list[list[str]] = [[]]
    for unit in _UNIT.findall(pattern):
        if unit == "*":
            pieces.append([])
        elif unit == "?":
            pieces[-1].append(".")
        else:
            pieces[-1].append(re.escape(unit[-1]))
    return Glob(tuple((re.compile("".join(p), re.DOTALL), len(p)) for p in pieces))


def escape(text: str) -> str:
    """The pattern that matches this text and no other."""
    return re.sub(r"[*?\\]", r"\\\g<0>", text)


def is_literal(pattern: str) -> bool:
    """Whether a pattern matches one text only."""
    return all(unit not in ("*", "?") for unit in _UNIT.findall(pattern))


def unescape(pattern: str) -> str:
    """The text that a literal pattern matches."""
    return "".join(unit[-1] for unit in _UNIT.findall(pattern))


def glob_covers(wider: str, narrower: str) -> bool:
    """Whether each text that fits ``narrower`` fits ``wider``; false where that is not certain."""
    return _covers(_UNIT.findall(wider), _UNIT.findall(narrower), "*", _unit_covers)


def segments_cover(wider: Sequence[str], narrower: Sequence[str]) -> bool:
    """The same of patterns of a path's segments."""
    return _covers(wider, narrower, "**", glob_covers)


def _covers(
    wider: Sequence[str], narrower: Sequence[str], star: str, fits: Callable[[str, str], bool]
) -> bool:
    """Match the parts of one pattern against those of another, as if they were a text."""
    reached = {0}
    for part in narrower:
        reached = _after_stars(wider, reached, star)
        stay = {at for at in reached if at < len(wider) and wider[at] == star}
        step = {
            at + 1
            for at in reached - stay
            if part != star and at < len(wider) and fits(wider[at], part)
        }
        reached = stay | step
    return len(wider) in _after_stars(wider, reached, star)


def _after_stars(pattern: Sequence[str], reached: set[int], star: str) -> set[int]:
    found = set(reached)
    for at in range(len(pattern)):
        if at in found and pattern[at] == star:
            found.add(at + 1)
    return found


def _unit_covers(wider: str, narrower: str) -> bool:
    if wider == "?":
        return narrower == "?" or narrower[-1].isascii()
    return narrower != "?" and wider[-1] == narrower[-1]


def match_segments(pattern: Sequence[str], segments: Sequence[str]) -> bool:
    """Whether a path's segments fit: a segment ``**`` stands for any number of segments, also none.

    Within the other segments the pattern is a glob.
    """
    at = here = restart = 0
    star = -1
    while here < len(segments):
        if at < len(pattern) and pattern[at] == "**":
            star, restart, at = at, here, at + 1
        elif at < len(pattern) and compile_glob(pattern[at]).matches(segments[here]):
            at, here = at + 1, here + 1
        elif star >= 0:
            restart += 1
            at, here = star + 1, restart
        else:
            return False
    return all(segment == "**" for segment in pattern[at:])
