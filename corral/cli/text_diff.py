"""What differs between two texts, line by line, and within a line word by word.

The texts are untrusted and may be long: they are cleaned here, and cut before they are compared.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corral.cli.output import clean

if TYPE_CHECKING:
    from rich.text import Text

CONTEXT = 2
"""Equal lines that are kept around a difference."""

_MOST_LINES = 2000
_MOST_WORDS = 400
_MOST_CELLS = 2500
_LITTLE = 0.4
_KEPT = 48  # characters that are kept of what is equal around a difference in a long line
_LONGEST = 600

_WORDS = re.compile(r"\w+|\s+|[^\w\s]")

Pieces = tuple[tuple[str, bool], ...]
"""A line in pieces; of each, whether the other text has something else there."""


@dataclass(frozen=True)
class Row:
    """A line of both texts, side by side; ``None`` where one has none.

    ``skipped`` counts equal lines that are left out in this place; then both are ``None``.
    """

    a: Pieces | None
    b: Pieces | None
    skipped: int = 0

    @property
    def is_equal(self) -> bool:
        """Whether both texts have this line."""
        return self.a is not None and self.a == self.b


def rows(a: str, b: str) -> list[Row]:
    """Two texts beside each other: their differences, and a little of what is equal around."""
    if a.rstrip("\n") != b.rstrip("\n"):
        a, b = a.rstrip("\n"), b.rstrip("\n")
    one, two = _lines(a), _lines(b)
    found: list[Row] = []
    for tag, a1, a2, b1, b2 in difflib.SequenceMatcher(
        None, one, two, autojunk=False
    ).get_opcodes():
        if tag == "equal":
            found += (Row(((line, False),), ((line, False),)) for line in one[a1:a2])
        else:
            found += _changed(one[a1:a2], two[b1:b2])
    return _without_equal(found)


def _lines(text: str) -> list[str]:
    lines = clean(text).split("\n")
    more = len(lines) - _MOST_LINES
    return lines if more <= 0 else [*lines[:_MOST_LINES], f"… {more} more lines"]


def _changed(a: Sequence[str], b: Sequence[str]) -> Iterator[Row]:
    """Lines that were replaced by others: those that are alike stand beside each other."""
    done_a = done_b = 0
    for i, j in _alike(a, b):
        yield from _only(a[done_a:i], b[done_b:j])
        yield Row(*words(a[i], b[j]))
        done_a, done_b = i + 1, j + 1
    yield from _only(a[done_a:], b[done_b:])


def _only(a: Sequence[str], b: Sequence[str]) -> Iterator[Row]:
    for line in a:
        yield Row(_cut(((line, True),)), None)
    for line in b:
        yield Row(None, _cut(((line, True),)))


def _alike(a: Sequence[str], b: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Which lines belong together, in order: as alike in sum as can be."""
    if len(a) == len(b) == 1 or len(a) * len(b) > _MOST_CELLS:
        yield from zip(range(len(a)), range(len(b)), strict=False)
        return
    one, two = ([Counter(_WORDS.findall(line)) for line in lines] for lines in (a, b))
    likeness = [[_likeness(mine, its) for its in two] for mine in one]
    best = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a) - 1, -1, -1):
        for j in range(len(b) - 1, -1, -1):
            paired = likeness[i][j] and likeness[i][j] + best[i + 1][j + 1]
            best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
    i = j = 0
    while i < len(a) and j < len(b):
        if likeness[i][j] and best[i][j] == likeness[i][j] + best[i + 1][j + 1]:
            yield i, j
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1


def _likeness(a: Counter[str], b: Counter[str]) -> float:
    """The share of words that two lines have in common (Dice 1945); 0 when that is little."""
    share = 2 * (a & b).total() / max(a.total() + b.total(), 1)
    return share if share > _LITTLE else 0.0


def _without_equal(found: list[Row]) -> list[Row]:
    """Leave out what is equal and not near to a difference."""
    different = [index for index, row in enumerate(found) if not row.is_equal]
    near = {i for index in different for i in range(index - CONTEXT, index + CONTEXT + 1)}
    kept: list[Row] = []
    skipped = 0
    for index, row in enumerate(found):
        if index not in near:
            skipped += 1
            continue
        if skipped:
            kept.append(Row(None, None, skipped))
        kept.append(row)
        skipped = 0
    return [*kept, Row(None, None, skipped)] if skipped else kept


def words(a: str, b: str) -> tuple[Pieces, Pieces]:
    """Two lines in pieces that are equal or not; what is equal is shortened when it is long."""
    start = _same_start(a, b)
    end = _same_start(a[start:][::-1], b[start:][::-1])
    one, two = (_WORDS.findall(text[start : len(text) - end]) for text in (a, b))
    if max(len(one), len(two)) > _MOST_WORDS or not _likeness(Counter(one), Counter(two)):
        middle_a, middle_b = [("".join(one), True)], [("".join(two), True)]
    else:
        middle_a, middle_b = _middle(one, two)
    head, tail = (a[:start], False), (a[len(a) - end :], False)
    return _cut((head, *middle_a, tail)), _cut((head, *middle_b, tail))


def _same_start(a: str, b: str) -> int:
    """How many characters both begin with, not ending inside of a word."""
    limit = min(len(a), len(b))
    count = next((i for i in range(limit) if a[i] != b[i]), limit)
    while count and any(
        count < len(text) and text[count - 1].isalnum() and text[count].isalnum() for text in (a, b)
    ):
        count -= 1
    return count


def _middle(a: list[str], b: list[str]) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    one: list[tuple[str, bool]] = []
    two: list[tuple[str, bool]] = []
    for tag, a1, a2, b1, b2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        # A space alone between two differences would cut them into pieces that read badly.
        differs = tag != "equal" or (bool(one) and not "".join(a[a1:a2]).strip())
        for pieces, text in ((one, "".join(a[a1:a2])), (two, "".join(b[b1:b2]))):
            if pieces and pieces[-1][1] is differs:
                pieces[-1] = (pieces[-1][0] + text, differs)
            else:
                pieces.append((text, differs))
    return one, two


def _cut(pieces: Sequence[tuple[str, bool]]) -> Pieces:
    """Shorten long pieces, and leave out empty ones."""
    last = len(pieces) - 1
    shown = (
        (_cut_off(text) if differs else _cut_out(text, index > 0, index < last), differs)
        for index, (text, differs) in enumerate(pieces)
    )
    return tuple(piece for piece in shown if piece[0])


def _cut_off(text: str) -> str:
    more = len(text) - _LONGEST
    return text if more <= 0 else f"{text[:_LONGEST]}… {more:,} more characters"


def _cut_out(text: str, after: bool, before: bool) -> str:
    """What is equal, without its middle; with what is next to a difference."""
    if len(text) <= 4 * _KEPT:
        return text
    return f"{text[:_KEPT] if after else ''}…{text[-_KEPT:] if before else ''}"


def drawn(pieces: Pieces, mark: str, *, coloured: bool) -> Text:
    """A line with its differences in colour, or in ``[-…-]`` and ``{+…+}`` without.

    ``mark`` is ``-`` for a line of the first text, ``+`` for one of the second.
    """
    from rich.text import Text

    opening, closing = ("[-", "-]") if mark == "-" else ("{+", "+}")
    style = "red" if mark == "-" else "green"
    line = Text()
    for text, differs in pieces:
        if differs and not coloured:
            line.append(f"{opening}{text}{closing}")
        else:
            line.append(text, style=f"bold {style}" if differs else None)
    return line
