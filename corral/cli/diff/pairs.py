"""The effects of two runs: side by side where there is room, else one above the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from corral.cli.diff.changes import NAMES, texts, told
from corral.cli.output import clean, one_line
from corral.cli.preview import duration
from corral.cli.text_diff import Pieces, Row, drawn, rows
from corral.cli.trace.summary import used
from corral.cli.trace.words import asked, how_it_went
from corral.runtime.comparison import Comparison, Pair
from corral.runtime.views import EffectView, Totals

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MOST_ROWS = 16
"""Lines of one change that are shown at first."""

MOST_PAIRS = 60
"""Effects that are shown at first."""

_MOST_RESULT = 3  # lines of a result that only one run has
_INDENT = 7
_MARKS = {"changed": ("~", "yellow"), "only_a": ("-", "red"), "only_b": ("+", "green")}


@dataclass(frozen=True)
class Layout:
    """How pairs are drawn: on what, side by side or not, and whether in full."""

    console: Console
    side_by_side: bool
    full: bool

    @property
    def coloured(self) -> bool:
        """Whether differences can be told by their colour."""
        return self.console.color_system is not None and not self.console.no_color


def draw(found: Comparison, layout: Layout) -> None:
    """Show the effects from where two runs part."""
    shown = 0
    for same, group in groupby(found.pairs, key=lambda pair: pair.verdict == "same"):
        pairs = list(group)
        if same and not layout.full and len(pairs) > 2:
            _line(layout, _same_span(pairs))
            continue
        for pair in pairs:
            if shown == MOST_PAIRS and not layout.full:
                left = sum(one.verdict != "same" for one in found.pairs) - shown
                _line(layout, f"  … {left} more effects differ: --full shows them")
                return
            _draw_pair(pair, layout)
            shown += not same


def _line(layout: Layout, text: str) -> None:
    layout.console.print(text, style="dim")


def _same_span(pairs: list[Pair]) -> str:
    spans = []
    for side in ("a", "b"):
        seqs = [getattr(pair, side).seq for pair in pairs]
        spans.append(f"{min(seqs)} to {max(seqs)}")
    where = spans[0] if spans[0] == spans[1] else f"A {spans[0]}, B {spans[1]}"
    return f"=      {len(pairs)} effects are the same ({where})"


def _draw_pair(pair: Pair, layout: Layout) -> None:
    if layout.side_by_side:
        _beside(pair, layout)
    else:
        _above(pair, layout)


def _beside(pair: Pair, layout: Layout) -> None:
    from rich import box
    from rich.padding import Padding
    from rich.table import Table

    width = (layout.console.width - 3) // 2
    grid = Table(box=box.MINIMAL, show_header=False, show_edge=False, padding=(0, 1, 0, 0))
    for _ in range(2):
        grid.add_column(width=width, overflow="fold")
    for indent, a, b in _cells(pair, layout):
        grid.add_row(*(Padding(cell, (0, 0, 0, indent)) if cell else None for cell in (a, b)))
    layout.console.print(grid)


def _cells(pair: Pair, layout: Layout) -> Iterator[tuple[int, Text | None, Text | None]]:
    """The lines of a pair: how far they are indented, and what stands on each side."""
    from rich.text import Text

    sign, style = _MARKS.get(pair.verdict, ("=", "dim"))
    dim = pair.verdict == "same"
    room = layout.console.width // 2 - 32
    heads = [
        _heading(one, _asked(one, pair, room), dim=dim) if one else None for one in (pair.a, pair.b)
    ]
    yield 0, Text.assemble((f"{sign} ", style), heads[0] or ""), heads[1]
    for line in _results(pair, layout):
        yield _INDENT, line if pair.a else None, line if pair.b else None
    for label, a, b in texts(pair):
        yield _INDENT, Text(label, style="dim"), Text(label, style="dim")
        for row in _limited(rows(a, b), layout):
            if row.skipped:
                skipped = Text(f"… {_count(row.skipped, 'equal line')}", style="dim")
                yield _INDENT, skipped, skipped
                continue
            yield _INDENT, _side(row.a, "-", layout), _side(row.b, "+", layout)


def _side(pieces: Pieces | None, mark: str, layout: Layout) -> Text | None:
    return None if pieces is None else drawn(pieces, mark, coloured=layout.coloured)


def _above(pair: Pair, layout: Layout) -> None:
    from rich.padding import Padding
    from rich.text import Text

    for line in _heads(pair):
        layout.console.print(line)
    indented: list[Text] = list(_results(pair, layout))
    for label, a, b in texts(pair):
        indented.append(Text(label, style="dim"))
        for row in _limited(rows(a, b), layout):
            indented += _unified(row, layout)
    for line in indented:
        layout.console.print(Padding(line, (0, 0, 0, _INDENT), expand=False))


def _heads(pair: Pair) -> Iterator[Text]:
    """The line over a pair, or two of them when its effects have different names."""
    from rich.text import Text

    sign, style = _MARKS.get(pair.verdict, ("=", "dim"))
    one = pair.a or pair.b
    assert one is not None
    if any(change.aspect in NAMES for change in pair.changes):
        for mark, each in (("-", pair.a), ("+", pair.b)):
            if each is not None:
                yield Text.assemble((f"{mark} ", style), _heading(each, _asked(each, pair)))
        return
    head = _heading(one, _asked(one, pair), pair.b if pair.a else None, dim=pair.verdict == "same")
    yield Text.assemble((f"{sign} ", style), head)


def _unified(row: Row, layout: Layout) -> Iterator[Text]:
    from rich.text import Text

    if row.skipped:
        yield Text(f"  … {_count(row.skipped, 'equal line')}", style="dim")
    elif row.is_equal and row.a is not None:
        yield Text("  ").append(drawn(row.a, " ", coloured=True))
    for mark, pieces in (("-", row.a), ("+", row.b)):
        if pieces is not None and not row.is_equal:
            style = "red" if mark == "-" else "green"
            line = drawn(pieces, mark, coloured=layout.coloured)
            yield Text.assemble((f"{mark} ", style), line)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def _limited(found: list[Row], layout: Layout) -> Sequence[Row]:
    if layout.full or len(found) <= MOST_ROWS + 1:
        return found
    more = ((f"… {len(found) - MOST_ROWS} more lines: --full shows them", False),)
    return [*found[:MOST_ROWS], Row(more, more)]


def _heading(
    effect: EffectView, asked: str, other: EffectView | None = None, *, dim: bool = False
) -> Text:
    """An effect on a line: its number, what was asked, how it went; ``other`` is B's."""
    from rich.text import Text

    number, facts = str(effect.seq), _cost(effect)
    if other is not None:
        number = number if other.seq == effect.seq else f"{effect.seq}|{other.seq}"
        theirs = _cost(other)
        facts = facts if facts == theirs else f"{facts or 'nothing'} → {theirs or 'nothing'}"
    head = Text.assemble((f"{number:>4} ", "dim"), (clean(effect.kind), "dim" if dim else "cyan"))
    head.append(f" {asked}", style="dim" if dim else "bold")
    return head.append(f"  {facts}", style="dim")


def _asked(effect: EffectView, pair: Pair, room: int = 80) -> str:
    """The call with its arguments, unless they differ and stand below."""
    if any(change.aspect == "arguments" for change in pair.changes):
        return clean(effect.name)
    return asked(effect, max(room, 24))


def _cost(effect: EffectView) -> str:
    went = how_it_went(effect)
    facts = [] if went == "finished" else [went]
    facts += used(Totals.of([effect]))
    return ", ".join([*facts, duration(effect.duration_ms)]).strip(", ")


def _results(pair: Pair, layout: Layout) -> Iterator[Text]:
    """What came of an effect that only one run has."""
    from rich.text import Text

    effect = pair.a or pair.b
    if effect is None or (pair.a and pair.b):
        return
    lines = clean(told(effect)).splitlines()
    most = len(lines) if layout.full or len(lines) <= _MOST_RESULT + 1 else _MOST_RESULT
    for line in lines[:most]:
        yield Text(line if layout.full else one_line(line, 200))
    if len(lines) > most:
        yield Text(f"… {len(lines) - most} more lines: --full shows them", style="dim")
