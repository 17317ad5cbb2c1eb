"""A run's timeline: bars on lanes, with long waits shortened so that the rest can be seen."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from corral.runtime.critical_path import CLOCK, CriticalPath
from corral.runtime.export.html_figures import is_error
from corral.runtime.export.html_text import duration
from corral.runtime.outline import Graph, Node, milliseconds, outline
from corral.runtime.views import EffectView

ROW = 26
"""Height of a lane, in pixels of the drawing."""

MOST_LANES = 40
MOST_DEEP = 8
"""Graphs inside of graphs that are drawn."""

_FAR_DOWN = 3 * MOST_LANES  # nobody sees what is on top of what down there
_COLUMNS = 1500  # bars that would share a column of these are drawn as one
_GAP_WIDTH = 4.0  # percent
_MOST_GAPS = 8
_IDLE = 0.08  # of the time in which something happened
_THIN = 0.4  # percent
_LABEL_WIDTH = 8.0  # percent
_CHARACTERS = 1.02  # that fit into one percent of the narrowest drawing


@dataclass(frozen=True)
class Bar:
    """One bar: ``x`` and ``width`` in percent of the drawing, ``y`` and ``height`` in pixels."""

    kind: str
    title: str
    label: str
    seq: int
    x: float
    width: float
    y: int
    height: int
    is_error: bool = False
    critical: bool = False
    begin: str = ""

    @property
    def is_thin(self) -> bool:
        """Whether it is too thin for an outline."""
        return self.width < _THIN


@dataclass(frozen=True)
class Gap:
    """A time in which nothing but a wait happened, drawn shorter than it was."""

    x: float
    width: float
    took: str

    @property
    def middle(self) -> float:
        """Where its label is drawn."""
        return round(self.x + self.width / 2, 3)


@dataclass(frozen=True)
class Tick:
    """A mark of the time axis, in percent, and the time since the beginning there."""

    x: float
    label: str
    anchor: str


@dataclass(frozen=True)
class Timeline:
    """The drawing. ``hidden`` counts the effects on lanes that it has no room for."""

    bars: Sequence[Bar] = ()
    gaps: Sequence[Gap] = ()
    ticks: Sequence[Tick] = ()
    height: int = ROW
    hidden: int = 0


def timeline(effects: Sequence[EffectView], way: CriticalPath) -> Timeline:
    """The drawing of the effects that a run made itself."""
    graph = outline(effects, max(map(_end, effects), default=None))
    nodes = list(graph.walk())
    if not nodes:
        return Timeline()
    scale = _Scale(nodes)
    drawing = _Drawing(scale, set(way.seqs))
    lanes = drawing.place(graph)
    rows = min(lanes, MOST_LANES)
    return Timeline(
        bars=drawing.bars,
        gaps=scale.gaps(),
        ticks=list(scale.ticks()),
        height=rows * ROW,
        hidden=drawing.hidden,
    )


def _end(effect: EffectView) -> float:
    return (milliseconds(effect.started_at) or 0.0) + (effect.duration_ms or 0.0)


class _Scale:
    """From times to percent, with long idle times shortened."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        busy = _union((node.begin, node.end) for node in nodes if _is_busy(node))
        first, last = min(node.begin for node in nodes), max(node.end for node in nodes)
        busy = busy or [(first, last)]
        pauses = list(_pauses(busy, first, last))
        active = max((last - first) - sum(end - begin for begin, end in pauses), 1.0)
        long = sorted(
            (p for p in pauses if p[1] - p[0] > max(1000.0, active * _IDLE)),
            key=lambda pause: pause[0] - pause[1],
        )[:_MOST_GAPS]
        self._gaps = sorted(long)
        shown = (last - first) - sum(end - begin for begin, end in self._gaps)
        self._per_ms = (100.0 - _GAP_WIDTH * len(self._gaps)) / max(shown, 0.001)
        self._times, self._places = [first], [0.0]
        for begin, end in self._gaps:
            self._times += [begin, end]
            before = self._places[-1] + (begin - self._times[-3]) * self._per_ms
            self._places += [before, before + _GAP_WIDTH]
        self._times.append(last)
        self._places.append(self._places[-1] + (last - self._times[-2]) * self._per_ms)

    def x(self, time: float) -> float:
        """Where a time is drawn, in percent."""
        at = min(max(bisect_right(self._times, time) - 1, 0), len(self._times) - 2)
        return _between(time, self._times[at : at + 2], self._places[at : at + 2])

    def _time(self, x: float) -> float:
        at = min(max(bisect_right(self._places, x) - 1, 0), len(self._places) - 2)
        return _between(x, self._places[at : at + 2], self._times[at : at + 2])

    def gaps(self) -> list[Gap]:
        return [
            Gap(round(self.x(begin), 3), _GAP_WIDTH, duration(end - begin))
            for begin, end in self._gaps
        ]

    def ticks(self) -> Iterator[Tick]:
        for x, anchor in (
            (0, "start"),
            (25, "middle"),
            (50, "middle"),
            (75, "middle"),
            (100, "end"),
        ):
            if any(abs(gap.middle - x) < _LABEL_WIDTH for gap in self.gaps()):
                continue
            yield Tick(x, duration(self._time(x) - self._times[0]), anchor)

    def since(self, time: float) -> str:
        """A time since the beginning, in words."""
        return duration(max(0.0, time - self._times[0]))


def _between(value: float, of: Sequence[float], to: Sequence[float]) -> float:
    if of[1] <= of[0]:
        return to[0]
    part = min(max((value - of[0]) / (of[1] - of[0]), 0.0), 1.0)
    return to[0] + part * (to[1] - to[0])


def _is_busy(node: Node) -> bool:
    """Whether something happened, and not only a wait: what is around others says nothing."""
    return node.inside is None and (node.effect is None or node.effect.kind != "approval")


def _union(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def _pauses(
    busy: Sequence[tuple[float, float]], first: float, last: float
) -> Iterator[tuple[float, float]]:
    ends = [first, *(end for _, end in busy)]
    begins = [*(begin for begin, _ in busy), last]
    for end, begin in zip(ends, begins, strict=True):
        if begin > end:
            yield end, begin


@dataclass
class _Drawing:
    scale: _Scale
    critical: set[int]
    bars: list[Bar] = field(default_factory=list)
    hidden: int = 0
    _last: dict[tuple[int, str], float] = field(default_factory=dict)

    def place(self, graph: Graph, top: int = 0, depth: int = 0) -> int:
        """Draw a graph from the lane ``top`` on; how many lanes it took.

        What ran at the same time is on lanes of its own, and below a sub-agent is what it did.
        """
        placed, lanes = _pack(graph, depth)
        for node, row, height in placed:
            for question in node.questions:
                self._bar(question, top + row, 1)
            self._bar(node, top + row, height)
            if node.inside is not None and height > 1:
                self.place(node.inside, top + row + 1, depth + 1)
        return lanes

    def _bar(self, node: Node, row: int, height: int) -> None:
        effect = node.effect
        if effect is None:
            return
        if row >= MOST_LANES:
            self.hidden += 1
            return
        x = self.scale.x(node.begin)
        width = max(self.scale.x(node.end) - x, 0.0)
        column, small = int(x * _COLUMNS / 100), width * _COLUMNS / 100 < 1
        if small and not is_error(effect) and self._last.get((row, effect.kind)) == column:
            return
        self._last[row, effect.kind] = column
        took = duration(node.end - node.begin)
        kind = effect.kind if effect.kind in ("model", "tool", "agent", "approval") else "other"
        self.bars.append(
            Bar(
                kind=kind,
                title=f"{effect.seq}. {effect.kind} {effect.name}, {effect.status}: {took}",
                label=_label(effect.kind if kind == "other" else effect.name, width),
                seq=effect.seq,
                x=round(x, 3),
                width=round(max(width, 100 / _COLUMNS), 3),
                y=row * ROW,
                height=min(height, MOST_LANES - row) * ROW,
                is_error=is_error(effect),
                critical=effect.seq in self.critical,
                begin=self.scale.since(node.begin),
            )
        )


def _begin(node: Node) -> float:
    return min([node.begin, *(question.begin for question in node.questions)])


def _pack(graph: Graph, depth: int) -> tuple[list[tuple[Node, int, int]], int]:
    """Each effect of a graph with its first lane and how many it takes; how many all take."""
    busy_until: list[float] = []
    placed = []
    for node in sorted(graph.nodes(), key=_begin):
        height = 1
        if node.inside is not None and depth < MOST_DEEP:
            height += _pack(node.inside, depth + 1)[1]
        row = 0
        while row < _FAR_DOWN and not _is_free(busy_until[row : row + height], _begin(node)):
            row += 1
        busy_until += [-math.inf] * (row + height - len(busy_until))
        busy_until[row : row + height] = [node.end] * height
        placed.append((node, row, height))
    return placed, max(len(busy_until), 1)


def _is_free(lanes: Sequence[float], begin: float) -> bool:
    return all(until <= begin + CLOCK for until in lanes)


def _label(name: str, width: float) -> str:
    room = int(width * _CHARACTERS)
    if room < 4:
        return ""
    return name if len(name) <= room else f"{name[: room - 1]}…"
