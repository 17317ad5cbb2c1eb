"""A trace drawn: a line or a few for each effect, with its time, its cost and where it belongs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style

from corral.cli.output import clean, one_line
from corral.cli.render import STATUS_STYLE
from corral.cli.trace.data import Trace
from corral.cli.trace.filters import EVERYTHING, Filter
from corral.cli.trace.rows import Item, Row, Sums, rows
from corral.cli.trace.summary import (
    CRITICAL,
    Line,
    Piece,
    answered_by,
    brief,
    columns,
    fitted,
    foot,
    head,
    used,
    wrapped,
)
from corral.cli.trace.timeline import Timeline
from corral.cli.trace.words import asked, asked_in_full, gave, gave_in_full, how_it_went, is_damaged
from corral.runtime.outline import OPEN, Node
from corral.runtime.tool_costs import tool_costs
from corral.runtime.views import EffectView

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

SHARED = "┊"
"""Stands before an effect that a fork shares with its parent."""

KIND_STYLE = {"model": "cyan", "tool": "green", "agent": "magenta", "approval": "yellow"}

_ASCII = str.maketrans({"├": "|", "└": "`", "│": "|", "─": "-", "→": ">", "…": "~", "·": ","})
_ASCII |= str.maketrans(
    {
        CRITICAL: "*",
        SHARED: ":",
        "“": '"',
        "”": '"',
        "█": "#",
        "▏": "|",
        "░": ":",
        "←": "<",
        "⏎": " ",
    }
)
_TIME = 10
_BAR = 24
_AT_ONCE = 200
_WIDE = 110
"""Columns from which on there is room for bars that show when each effect ran."""


@dataclass(frozen=True)
class Look:
    """How much is shown of a trace.

    What is critical, and how long the bars are, is known when the ``whole`` of it is there.
    """

    only: Filter = EVERYTHING
    full: bool = False
    whole: bool = True


@dataclass(frozen=True)
class Tree:
    """A trace as a Rich renderable. Bars stand on a wide terminal; a pipe gets whole lines."""

    trace: Trace
    look: Look = field(default_factory=Look)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines as Rich draws them."""
        lines = tree_lines(self.trace, self.look, options.max_width, wrap=console.is_terminal)
        yield Lines(lines)


@dataclass(frozen=True)
class Lines:
    """Lines of pieces as a Rich renderable."""

    lines: Iterable[Line]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines as Rich draws them."""
        del console  # they are drawn for its width already
        for line in self.lines:
            yield from segments(line, ascii_only=options.ascii_only)


def tree_lines(trace: Trace, look: Look, width: int, *, wrap: bool) -> Iterator[Line]:
    """All lines for a trace, each drawn when it is its turn."""
    yield from head(trace, width)
    yield from Artist(trace, look, width, wrap=wrap).lines()
    yield from foot(trace, look.only, width)


def show(trace: Trace, look: Look, out: Console) -> None:
    """Print a trace a part at a time: who reads only its beginning waits for no more."""
    lines = tree_lines(trace, look, out.width, wrap=out.is_terminal)
    while part := list(islice(lines, _AT_ONCE)):
        out.print(Lines(part), crop=False, end="")


def segments(line: Iterable[Piece], *, ascii_only: bool) -> Iterator[Segment]:
    """A line of pieces as Rich draws it."""
    for text, style in line:
        shown = to_ascii(text) if ascii_only else text
        yield Segment(shown, Style.parse(style) if style else None)
    yield Segment.line()


def to_ascii(text: str) -> str:
    """The text with guides and marks that any terminal can show."""
    return text.translate(_ASCII)


class Artist:
    """Draws the rows of one trace within ``width`` columns. ``wrap`` says that it is a terminal."""

    def __init__(self, trace: Trace, look: Look, width: int, *, wrap: bool) -> None:
        self._trace = trace
        self._look = look
        self._wrap = wrap
        self._run = trace.run.run
        self._sums = Sums.of(trace.graph)
        self._costs = tool_costs(trace.effects)
        self._critical = frozenset(trace.critical.seqs if look.whole else ())
        last = max((effect.seq for effect in trace.effects), default=0)
        self._digits = max(3, len(str(last)))
        self._gutter = self._digits + 3 + _TIME + 1
        bars = wrap and width >= _WIDE and look.whole
        self._bars = Timeline(trace.graph, _BAR) if bars else None
        self._width = max(24, width - self._gutter - (_BAR + 2 if bars else 0))
        self._fitting = self._find_fitting()

    def _find_fitting(self) -> set[int] | None:
        """The nodes that fit the filter, or hold one that does; ``None`` without a filter."""
        if not self._look.only:
            return None
        found: set[int] = set()
        for node in reversed(list(self._trace.graph.walk())):
            fits = node.effect is not None and self._look.only.shows(node.effect)
            if fits or any(id(child) in found for child in node.children()):
                found.add(id(node))
        return found

    def lines(self) -> Iterator[list[Piece]]:
        """All lines of the tree."""
        own = self._trace.standing.left is None
        for row in rows(self._trace.graph, self._is_shown):
            effect = row.item.node.effect if row.item.node else None
            if not own and effect is not None and effect.run == self._run:
                own = True
                yield self._parting()
            yield from self.row(row)

    def _is_shown(self, item: Item) -> bool:
        return self._fitting is None or any(id(node) in self._fitting for node in item.nodes)

    def _parting(self) -> list[Piece]:
        left = self._trace.standing.left
        assert left is not None
        text = f"── parted from {clean(left.parent)} at effect {left.at}"
        changed = ", ".join(clean(str(name)) for name in left.changes)
        return [(f"{text}; changed: {changed} ──" if changed else f"{text} ──", "yellow")]

    def row(self, row: Row) -> Iterator[list[Piece]]:
        """One row: a line for what was asked, and lines for what it gave."""
        item = row.item
        effect = item.node.effect if item.node else None
        is_context = effect is not None and self._look.only and not self._look.only.shows(effect)
        is_shared = effect is not None and effect.run != self._run
        lines = list(self._row_lines(row, effect, bare=bool(is_context)))
        for line in lines:
            yield [(text, "dim") for text, _ in line] if is_shared or is_context else line

    def _row_lines(
        self, row: Row, effect: EffectView | None, *, bare: bool
    ) -> Iterator[list[Piece]]:
        facts = self._facts(row.item, effect)
        room = self._width - columns(row.guide)
        said = sum(columns(text) for text, _ in facts)
        head = self._head(row.item, effect, room - said)
        # Where the facts leave too little room for the rest, they get a line of their own.
        apart = bool(facts) and sum(columns(text) for text, _ in head) + said > room
        if apart or (facts and room - said < 28 and head[-1][0].endswith("…)")):
            head, apart = self._head(row.item, effect, room), True
        first: list[Piece] = [*self._margin(row.item, effect), (row.guide, "dim"), *head]
        yield self._with_bar(first if apart else [*first, *facts], row.item)
        if apart:
            yield [*self._rest(row), ("", ""), *facts[1:]]
        if effect is not None and not bare:
            for text, style in self._body(effect, self._width - columns(row.rest)):
                yield [*self._rest(row), (text, style)]

    def _rest(self, row: Row) -> list[Piece]:
        return [(" " * self._gutter, ""), (row.rest, "dim")]

    def _margin(self, item: Item, effect: EffectView | None) -> list[Piece]:
        """The effect's number, its mark and how long it took."""
        number = "" if effect is None else str(effect.seq)
        mark, style = " ", ""
        if effect is not None and effect.run != self._run:
            mark = SHARED
        elif effect is not None and effect.seq in self._critical:
            mark, style = CRITICAL, "bold magenta"
        time = f"{self._time(item, effect):>{_TIME}}"
        return [(f"{number:>{self._digits}} ", "dim"), (mark, style), (f" {time} ", "")]

    def _time(self, item: Item, effect: EffectView | None) -> str:
        is_open = effect is not None and effect.status in OPEN
        if is_open and self._trace.until is None:
            return "?"  # nobody knows when it ended
        is_alone = item.node is not None and item.node.inside is None
        if effect is not None and is_alone and not is_open and effect.duration_ms is None:
            return ""
        shown = brief(self._lasted(item))
        return f"{shown}…" if is_open else shown

    def _lasted(self, item: Item) -> float:
        """How long it took; in a fork, what it did of it itself, and not the time between."""
        if self._trace.standing.left is None:
            return item.end - item.begin
        leaves = [leaf for node in item.nodes for leaf in _leaves(node)]
        own = [leaf for leaf in leaves if leaf.effect is None or leaf.effect.run == self._run]
        counted = own or leaves
        return max(leaf.end for leaf in counted) - min(leaf.begin for leaf in counted)

    def _head(self, item: Item, effect: EffectView | None, room: int) -> list[Piece]:
        head: list[Piece] = [(f"{clean(item.label)}  ", "bold")] if item.label else []
        if effect is None:
            head.append((_heading(item), "" if item.node is None else "magenta"))
            return head
        kind = clean(effect.kind)
        head.append((f"{kind} ", KIND_STYLE.get(kind, "blue")))
        left = max(12, room - sum(columns(text) for text, _ in head))
        head.append((fitted(asked(effect, left), left), ""))
        return head

    def _facts(self, item: Item, effect: EffectView | None) -> list[Piece]:
        """How it went, unless well, and what it used, with what was used inside of it."""
        facts: list[Piece] = []
        if effect is not None:
            word = how_it_went(effect)
            if word != "finished":
                facts.append((word, STATUS_STYLE.get(word, "red")))
            if is_damaged(effect):
                facts.append(("damaged", "red"))
            if effect.attempts > 1:
                facts.append((f"{effect.attempts} attempts", "yellow"))
            facts += [(text, "yellow") for text in answered_by(effect)]
            facts += [(text, "dim") for text in self._offered(effect)]
        facts += [(text, "dim") for text in used(self._sums.total(item.nodes))]
        return [piece for fact in facts for piece in (("  ", ""), fact)]

    def _offered(self, effect: EffectView) -> list[str]:
        """Of many tools, how many a model was offered, and what that cost."""
        cost = self._costs.get(effect.seq)
        return [cost.in_words()] if cost is not None and cost.offered < cost.known else []

    def _body(self, effect: EffectView, width: int) -> Iterator[Piece]:
        if self._look.full:
            yield from self._full_body(effect, width)
            return
        style = "red" if _is_bad(effect) else "dim"
        for text in gave(effect)[:12]:
            yield fitted(one_line(text, max(width, 16)), max(width, 16)), style

    def _full_body(self, effect: EffectView, width: int) -> Iterator[Piece]:
        parts = (("asked", asked_in_full(effect), ""), ("gave", gave_in_full(effect), "dim"))
        for name, lines, style in parts:
            found = [piece for line in lines for piece in self._wrapped(line, width - 2)]
            if found:
                yield f"{name}:", "bold"
            bad = name == "gave" and _is_bad(effect)
            for line in found:
                yield f"  {line}", "red" if bad else style

    def _wrapped(self, line: str, width: int) -> list[str]:
        """A line in pieces that fit; a pipe gets it whole."""
        return list(wrapped(line, max(width, 16))) if self._wrap else [line]

    def _with_bar(self, line: list[Piece], item: Item) -> list[Piece]:
        if self._bars is None:
            return line
        used_up = sum(columns(text) for text, _ in line)
        gap = self._gutter + self._width - used_up
        effect = item.node.effect if item.node else None
        style = KIND_STYLE.get(effect.kind, "blue") if effect else "dim"
        is_wait = effect is not None and effect.kind == "approval"
        bar = self._bars.bar(item.begin, item.end, "░" if is_wait else "█")
        return [*line, (" " * max(gap, 1) + " ", ""), (bar, style)]


def _heading(item: Item) -> str:
    """What is said of several effects, or of a graph whose own effect has no entry."""
    if item.node is not None:
        return "graph"
    if item.step is None or len(item.step.tasks) < 2:
        return f"{len(item.nodes)} effects"
    names = dict.fromkeys(clean(task.partition("[")[0]) for task in item.step.tasks)
    return f"{', '.join(names)}: {len(item.step.tasks)} branches in parallel"


def _leaves(node: Node) -> Iterator[Node]:
    """The effects at the bottom of a node, and the questions about it."""
    below = [leaf for child in node.children() for leaf in _leaves(child)]
    yield from below if node.inside is not None else [node, *below]


def _is_bad(effect: EffectView) -> bool:
    return how_it_went(effect) in ("error", "failed") or is_damaged(effect)
