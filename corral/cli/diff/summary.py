"""Two runs in a sentence and in a table: where they part, and what each used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

from corral.cli.output import clean, one_line
from corral.cli.preview import duration
from corral.cli.render import table
from corral.runtime.comparison import Comparison, Figures
from corral.runtime.paths import in_words
from corral.runtime.views import RunView

if TYPE_CHECKING:
    from rich.table import Table


def verdict(found: Comparison) -> str:
    """In a sentence, up to where two runs are the same."""
    if found.a.run == found.b.run:
        return "identical: both are one run"
    if found.identical:
        return f"identical: {found.common} effects, and the same end{_lineage(found)}"
    if not found.common:
        return f"different from the first effect on{_lineage(found)}"
    if not found.pairs:
        return f"identical up to the end, effect {found.last_a}, but they ended differently"
    where = f"identical up to effect {found.last_a}"
    if found.last_b != found.last_a:
        where += f" of A and {found.last_b} of B"
    if found.shared:
        all_ = "all" if found.shared == found.common else str(found.shared)
        where += f" ({found.common} effects, {all_} of them shared)"
    first = next((pair.a or pair.b for pair in found.pairs), None)
    return f"{where}; they part at {in_words(first.path) if first else ''}{_lineage(found)}"


def _lineage(found: Comparison) -> str:
    a, b = found.a, found.b
    if b.parent == a.run:
        return f"\nB is a fork of A at effect {b.fork_at}"
    if a.parent == b.run:
        return f"\nA is a fork of B at effect {a.fork_at}"
    if a.parent is not None and a.parent == b.parent:
        return f"\nboth are forks of {a.parent}, A at effect {a.fork_at}, B at effect {b.fork_at}"
    return ""


def summary(found: Comparison) -> Table:
    """What both runs are and what they used, with the differences."""
    shown = table("", "A", "B", "B - A")
    a, b = found.a, found.b
    for name, mine, its in _facts(a, b):
        differs = "differs" if mine != its and name != "run" else ""
        shown.add_row(name, clean(mine), clean(its), differs)
    more = found.figures_b.minus(found.figures_a)
    for name, words in _FIGURES.items():
        if name in _WHERE_ANY and not any(
            getattr(one, name) for one in (found.figures_a, found.figures_b)
        ):
            continue
        cells = (_figure(name, one) for one in (found.figures_a, found.figures_b))
        shown.add_row(words, *cells, _difference(name, more))
    return shown


def _facts(a: RunView, b: RunView) -> Iterator[tuple[str, str, str]]:
    yield "run", a.run, b.run
    yield "status", a.status, b.status
    yield "agent", a.agent, b.agent
    yield "model", a.model, b.model
    yield "prompt", one_line(a.prompt, 60), one_line(b.prompt, 60)
    for name, mine, its in (("error", a.error, b.error), ("answer", a.output, b.output)):
        if mine or its:
            yield name, one_line(mine or "", 60), one_line(its or "", 60)


_FIGURES = {
    "steps": "steps",
    "tool_calls": "tool calls",
    "input_tokens": "tokens in",
    "cached_tokens": "of them cached",
    "output_tokens": "tokens out",
    "reasoning_tokens": "of them reasoning",
    "cost_usd": "cost",
    "model_ms": "model time",
    "tool_ms": "tool time",
    "wall_ms": "wall time",
}

_WHERE_ANY = frozenset({"cost_usd", "cached_tokens", "reasoning_tokens"})
"""Figures that are left out where both runs have none."""

_NOTHING = Figures(*(0 for _ in fields(Figures)))


def _figure(name: str, figures: Figures) -> str:
    value = getattr(figures, name)
    if name.endswith("_ms"):
        return duration(value)
    return f"${value:.4f}" if name == "cost_usd" else f"{value:,}"


def _difference(name: str, more: Figures) -> str:
    value = getattr(more, name)
    shown = _figure(name, more) if value >= 0 else _figure(name, _NOTHING.minus(more))
    if not any(digit in shown for digit in "123456789"):
        return ""
    return f"{'+' if value > 0 else '-'}{shown}"
