"""Bars in the terminal: how good and how fast models are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corral.evals.comparing import Standing

WIDEST = 90
"""Columns of a plot at most."""

_LONGEST_NAME = 30


def plots(standings: Sequence[Standing], width: int) -> Iterator[str]:
    """One plot for each measure that is known of two models or more; each ends with a new line."""
    measures: tuple[tuple[str, list[float | None]], ...] = (
        ("quality, % of the checks", [_percent(one.quality) for one in standings]),
        ("tokens per second", [one.tokens_per_second for one in standings]),
        ("milliseconds to the first token", [one.first_token_ms for one in standings]),
    )
    for title, values in measures:
        known = [
            (one.model, value)
            for one, value in zip(standings, values, strict=True)
            if value is not None
        ]
        if len(known) > 1:
            yield _bars(title, known, min(width, WIDEST))


def _percent(share: float | None) -> float | None:
    return None if share is None else share * 100


def _bars(title: str, bars: Sequence[tuple[str, float]], width: int) -> str:
    figure: Any = import_module("plotext").figure  # untyped, and heavier than all of this
    figure.clear()
    figure.plot_size(width, 2 * len(bars) + 4)
    figure.title(title)
    names = [_short(name) for name, _ in reversed(bars)]  # it draws from the bottom up
    values = [round(value, 1) for _, value in reversed(bars)]
    figure.draw(figure.bar(names, values, orientation="horizontal", labeled=True))
    figure.ruler("x").lim(0, max(values) or 1)
    text: str = figure.build().string(colorless=True)
    return f"{text.rstrip()}\n"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"
