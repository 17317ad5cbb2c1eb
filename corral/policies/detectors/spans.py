"""Pieces of a text that are to be replaced, by their bounds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """A piece of a text, by its bounds, and what kind of value it is.

    ``fixed`` says that the value is known to this process already and must be nowhere else.
    """

    start: int
    end: int
    kind: str
    fixed: bool = False


def merged(spans: list[Span]) -> Iterator[Span]:
    """The spans with those that overlap made one, of the first kind that has a name."""
    spans.sort(key=lambda span: (span.start, -span.end))
    current: Span | None = None
    for span in spans:
        if current is None or span.start >= current.end:
            if current is not None:
                yield current
            current = span
        else:
            end = max(current.end, span.end)
            kind, fixed = current.kind or span.kind, current.fixed or span.fixed
            current = Span(current.start, end, kind, fixed)
    if current is not None:
        yield current


def within(span: Span, shields: Sequence[Span]) -> bool:
    """Whether the span lies in one of ``shields``, which are in order."""
    index = bisect_right(shields, span.start, key=lambda shield: shield.start) - 1
    return index >= 0 and span.end <= shields[index].end
