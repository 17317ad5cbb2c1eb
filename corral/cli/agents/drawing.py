"""A small graph drawn as text: its nodes below one another, other ways back and ahead at the side.

    start
      ↓
    draft ◀───┐
      ↓       │
    judge     │
      ├┄┄┄┄┄┄┄┘
      ┆
    end

Dotted ways are those of which a node chooses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_INDENT = 2
_GAP = 3
_PLAIN = str.maketrans("│─┄┆├└┤┐┘┼↓◀", "|-.:+++++" + "+v<")


@dataclass(frozen=True)
class Edge:
    """A way from a node to another; ``chosen``: one of several, by what the node has found."""

    source: str
    target: str
    chosen: bool = False
    label: str = ""


@dataclass
class _Rail:
    """The way at the side that leads to one node, from all that do not stand right above it."""

    target: int
    rows: list[int]
    column: int = 0

    @property
    def top(self) -> int:
        return min(self.target, *self.rows)

    @property
    def bottom(self) -> int:
        return max(self.target, *self.rows)


def in_plain(text: str) -> str:
    """A drawing for a terminal that has ASCII only."""
    return text.translate(_PLAIN)


def ordered(nodes: Sequence[str], edges: Sequence[Edge]) -> list[str]:
    """The nodes such that most ways lead down; the first and the last of them stay where they are.

    Of the two orders in which branches can be followed it is the one that needs less at the side.
    """
    both = (_downwards(nodes, edges), _downwards(nodes, edges[::-1]))
    return min(both, key=lambda order: _beside(order, edges))


def _beside(order: Sequence[str], edges: Iterable[Edge]) -> tuple[int, int]:
    """How many ways are at the side, and how long they are together."""
    place = {node: at for at, node in enumerate(order)}
    steps = (place[edge.target] - place[edge.source] for edge in edges)
    long = [abs(step) for step in steps if step != 1]
    return len(long), sum(long)


def _downwards(nodes: Sequence[str], edges: Iterable[Edge]) -> list[str]:
    after: dict[str, list[str]] = {node: [] for node in nodes}
    for edge in edges:
        after[edge.source].append(edge.target)
    seen = set(nodes[-1:])
    found: list[str] = []
    for root in nodes[:-1]:
        done: list[str] = []
        _visit(root, after, seen, done)
        found += done[::-1]
    return [*found, *nodes[-1:]]


def _visit(root: str, after: Mapping[str, list[str]], seen: set[str], done: list[str]) -> None:
    """Depth first; what is finished first comes last."""
    if root in seen:
        return
    seen.add(root)
    pending = [(root, iter(reversed(after[root])))]
    while pending:
        node, targets = pending[-1]
        target = next((one for one in targets if one not in seen), None)
        if target is None:
            done.append(node)
            pending.pop()
        else:
            seen.add(target)
            pending.append((target, iter(reversed(after[target]))))


def draw(nodes: Sequence[str], edges: Sequence[Edge]) -> list[str]:
    """The lines of the drawing; ``nodes`` in the order in which they stand."""
    place = {node: at for at, node in enumerate(nodes)}
    beside = [edge for edge in edges if place[edge.target] != place[edge.source] + 1]
    down = {edge.source: edge for edge in edges if place[edge.target] == place[edge.source] + 1}
    rows: list[str] = []
    at_row: dict[str, int] = {}
    stubs: list[tuple[int, Edge]] = []
    for node in nodes:
        at_row[node] = len(rows)
        rows.append(node)
        leaving = [edge for edge in beside if edge.source == node]
        for edge in leaving:
            is_last = edge is leaving[-1] and node not in down
            stubs.append((len(rows), edge))
            rows.append(" " * _INDENT + ("└" if is_last else "├"))
        if node in down:
            rows.append(" " * _INDENT + ("┆" if down[node].chosen else "↓"))
        elif node != nodes[-1]:
            rows.append("")
    return _with_rails(rows, at_row, stubs)


def _with_rails(
    rows: list[str], at_row: Mapping[str, int], stubs: Sequence[tuple[int, Edge]]
) -> list[str]:
    rails: dict[str, _Rail] = {}
    for row, edge in stubs:
        rails.setdefault(edge.target, _Rail(at_row[edge.target], [])).rows.append(row)
    left = max((len(row) for row in rows), default=0) + _GAP
    left = max(left, _INDENT + 6 + max((len(edge.label) for _, edge in stubs), default=0))
    _place(list(rails.values()), left)
    width = max((rail.column for rail in rails.values()), default=0) + 1
    grid = [list(row.ljust(width)) for row in rows]
    for rail in rails.values():
        for row in range(rail.top, rail.bottom + 1):
            grid[row][rail.column] = "│"
    for rail in rails.values():
        name = rows[rail.target]
        _run(grid[rail.target], len(name) + 1, rail, "─", _corner(rail, rail.target))
        grid[rail.target][len(name) + 1] = "◀"
    for row, edge in stubs:
        rail = rails[edge.target]
        line = "┄" if edge.chosen else "─"
        _run(grid[row], _INDENT + 1, rail, line, _corner(rail, row))
        if edge.label:
            start = _INDENT + 2
            grid[row][start : start + len(edge.label) + 2] = f" {edge.label} "
    return ["".join(line).rstrip() for line in grid]


def _place(rails: list[_Rail], left: int) -> None:
    """Give each rail the first column in which no other is beside it, short ones first."""
    placed: list[_Rail] = []
    for rail in sorted(rails, key=lambda one: (one.bottom - one.top, one.top)):
        taken = {
            other.column
            for other in placed
            if other.top <= rail.bottom and rail.top <= other.bottom
        }
        rail.column = left
        while rail.column in taken:
            rail.column += _GAP
        placed.append(rail)


def _run(line: list[str], start: int, rail: _Rail, stroke: str, corner: str) -> None:
    """Draw from ``start`` to the rail, across those on the way."""
    for at in range(start, rail.column):
        line[at] = "┼" if line[at] == "│" else stroke
    line[rail.column] = corner


def _corner(rail: _Rail, row: int) -> str:
    if row == rail.top:
        return "┐"
    return "┘" if row == rail.bottom else "┤"
