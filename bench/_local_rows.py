"""The rows that ``bench/local.py`` prints: what was measured, beside what it should be."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

CORRAL, DIRECT, SERVER = "corral", "llama-cpp-python", "llama-server"
COLUMNS = (CORRAL, DIRECT, SERVER)

Samples = Mapping[str, Sequence[float]]
"""Measurements by side; those at the same index were made one after the other."""


@dataclass(frozen=True)
class Aim:
    """What a ratio should be; ``measured`` is ``None`` where the other side was not there."""

    text: str
    measured: float | None
    limit: float
    at_least: bool = False

    @property
    def reached(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


@dataclass(frozen=True)
class Row:
    what: str
    samples: Samples
    aims: Sequence[Aim] = ()
    digits: int = 1

    def median(self, side: str) -> float | None:
        values = self.samples.get(side)
        return statistics.median(values) if values else None

    def to_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "samples": {side: list(values) for side, values in self.samples.items()},
            "aims": [vars(aim) | {"reached": aim.reached} for aim in self.aims],
        }


def show(rows: Sequence[Row]) -> None:
    """Print a table: medians, and the median of the rounds' ratios beside each aim."""
    table = Table()
    for name in ("", *COLUMNS, "ratio", "aim", ""):
        table.add_column(name, justify="right" if name in {*COLUMNS, "ratio"} else "left")
    for row in rows:
        medians = [_number(row.median(side), row.digits) for side in COLUMNS]
        first, *others = [_aim_cells(aim) for aim in row.aims] or [("", "", "")]
        table.add_row(row.what, *medians, *first)
        for cells in others:
            table.add_row("", "", "", "", *cells)
    Console(width=150).print(table)


def ratio(over: Sequence[float] | None, under: Sequence[float] | None) -> float | None:
    """The median of the rounds' ratios."""
    if not over or not under:
        return None
    return statistics.median(a / max(b, 1e-9) for a, b in zip(over, under, strict=True))


def at_least(samples: Samples, limit: float, side: str) -> Aim:
    """An aim: Corral has at least ``limit`` times what a side has."""
    measured = ratio(samples.get(CORRAL), samples.get(side))
    return Aim(f">= {limit:g} of {side}", measured, limit, at_least=True)


def at_most(samples: Samples, limit: float, side: str) -> Aim:
    """An aim: Corral has at most ``limit`` times what a side has."""
    return Aim(f"<= {limit:g} of {side}", ratio(samples.get(CORRAL), samples.get(side)), limit)


def _aim_cells(aim: Aim) -> tuple[str, str, str]:
    verdict = {True: "reached", False: "missed", None: "not measured"}[aim.reached]
    return _number(aim.measured, 3), aim.text, verdict


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
