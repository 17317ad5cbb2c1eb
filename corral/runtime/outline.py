"""A journal as it is nested: a graph's steps, their branches, the effects in them, and so on down.

The paths say what belongs where, the times of the effects how long each part took.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from corral.runtime.paths import BESIDE, asked_about, places, scope
from corral.runtime.views import EffectView

OPEN = ("started", "waiting")
"""The statuses of an effect that has no recorded end."""

DEEPEST = 100
"""Graphs inside of graphs that are told apart; what is deeper stands at the top."""


@dataclass(eq=False)
class Node:
    """An effect, the questions to a human about it, what it connected to, and the graph inside it.

    ``effect`` is ``None`` where a journal (a fork's own part of it, say) holds only what ran
    inside. ``begin`` and ``end`` are milliseconds since 1970 and cover the graph inside, too.
    """

    path: str
    effect: EffectView | None = None
    begin: float = math.inf
    end: float = -math.inf
    questions: list[Node] = field(default_factory=list)
    connections: list[Node] = field(default_factory=list)
    inside: Graph | None = None

    @property
    def seq(self) -> int:
        """The place of the effect in the journal; of what is inside of it where it has none."""
        return self.effect.seq if self.effect else min(node.seq for node in self.children())

    def children(self) -> Iterator[Node]:
        """The questions, the connections, then the effects that were made inside."""
        yield from self.questions
        yield from self.connections
        if self.inside is not None:
            yield from self.inside.nodes()


@dataclass(eq=False)
class Step:
    """One superstep of a graph: its tasks ran at the same time. Times as in ``Node``."""

    number: int
    tasks: dict[str, list[Node]] = field(default_factory=dict)

    @property
    def begin(self) -> float:
        """When its first effect began."""
        return min(node.begin for node in self.nodes())

    @property
    def end(self) -> float:
        """When its last effect ended."""
        return max(node.end for node in self.nodes())

    def nodes(self) -> Iterator[Node]:
        """The effects of all tasks."""
        for nodes in self.tasks.values():
            yield from nodes


@dataclass(eq=False)
class Graph:
    """The effects of one graph: those that it makes once, and its steps by their numbers."""

    once: list[Node] = field(default_factory=list)
    steps: dict[int, Step] = field(default_factory=dict)

    def nodes(self) -> Iterator[Node]:
        """The effects of the graph itself, without what is inside of them."""
        yield from self.once
        for step in self.steps.values():
            yield from step.nodes()

    def walk(self) -> Iterator[Node]:
        """Every node of the graph and of the graphs inside, each before what belongs to it."""
        waiting = [self.nodes()]
        while waiting:
            node = next(waiting[-1], None)
            if node is None:
                waiting.pop()
                continue
            yield node
            waiting.append(node.children())


def outline(effects: Iterable[EffectView], until: float | None = None) -> Graph:
    """A run's effects, as ``Records.trace`` gives them, as they are nested.

    What has no recorded end lasts ``until`` (milliseconds since 1970), or no time at all.
    """
    builder = _Builder(until)
    for effect in effects:
        builder.add(effect)
    return builder.finish()


def milliseconds(time: str | None) -> float | None:
    """A time as the journal writes it, in milliseconds since 1970; ``None`` if it is no time."""
    try:
        return datetime.fromisoformat(time or "").timestamp() * 1000
    except (ValueError, TypeError, OverflowError):
        return None


class _Builder:
    def __init__(self, until: float | None) -> None:
        self._until = until
        self._root = Graph()
        self._nodes: dict[str, Node] = {}
        self._beside: list[Node] = []
        self._latest = 0.0

    def add(self, effect: EffectView) -> None:
        node = Node(effect.path, effect)
        self._set_times(node, effect)
        if effect.kind in BESIDE:
            self._beside.append(node)
        elif effect.path in self._nodes:
            known = self._nodes[effect.path]
            known.effect, known.begin, known.end = effect, node.begin, node.end
        else:
            self._place(node, effect.path)

    def _set_times(self, node: Node, effect: EffectView) -> None:
        begin = milliseconds(effect.started_at)
        node.begin = self._latest if begin is None else begin
        lasted = _lasted(effect.duration_ms)
        if lasted is None and effect.status in OPEN and self._until is not None:
            lasted = max(0.0, self._until - node.begin)
        node.end = self._latest = node.begin + (lasted or 0.0)

    def _place(self, node: Node, path: str) -> None:
        """Put a node where its path says; a question stands at its call's place."""
        self._nodes[path] = node
        if path.count("/") > DEEPEST:
            self._root.once.append(node)
            return
        around = scope(path)
        graph = self._graph(around)
        where = places(path[len(around) :])
        if where:
            step = graph.steps.setdefault(where[0].step, Step(where[0].step))
            step.tasks.setdefault(where[0].task, []).append(node)
        else:
            graph.once.append(node)

    def _graph(self, prefix: str) -> Graph:
        if not prefix:
            return self._root
        owner = prefix[:-1]
        if owner not in self._nodes:
            self._place(Node(owner), owner)
        node = self._nodes[owner]
        if node.inside is None:
            node.inside = Graph()
        return node.inside

    def finish(self) -> Graph:
        for node in self._beside:
            call = self._nodes.get(asked_about(node.path))
            if call is None:
                self._place(node, asked_about(node.path))
            elif node.effect is not None and node.effect.kind == "connection":
                call.connections.append(node)
            else:
                call.questions.append(node)
        nodes = list(self._root.walk())
        for node in reversed(nodes):
            _close_questions(node)
            _cover(node)
            _sort(node.inside)
        _sort(self._root)
        return self._root


def _lasted(duration: float | None) -> float | None:
    """A duration as a damaged row may hold it."""
    if not isinstance(duration, (int, float)) or not math.isfinite(duration):
        return None
    return max(0.0, duration)


def _close_questions(node: Node) -> None:
    """A question whose answer's time was not recorded lasted until its call was made."""
    for question in node.questions:
        known = question.effect is None or question.effect.duration_ms is not None
        if not known and question.effect and question.effect.status not in OPEN:
            question.end = max(question.end, node.begin)


def _cover(node: Node) -> None:
    if node.inside is not None:
        inner = list(node.inside.nodes())
        node.begin = min([node.begin, *(child.begin for child in inner)])
        node.end = max([node.end, *(child.end for child in inner)])


def _sort(graph: Graph | None) -> None:
    if graph is None:
        return
    graph.once.sort(key=lambda node: node.seq)
    graph.steps = dict(sorted(graph.steps.items()))
    for step in graph.steps.values():
        for nodes in step.tasks.values():
            nodes.sort(key=_index)
        step.tasks = dict(sorted(step.tasks.items(), key=_branch))


def _index(node: Node) -> tuple[int, int]:
    where = places(asked_about(node.path))
    return (where[-1].index if where else 0, node.seq)


def _branch(item: tuple[str, Sequence[Node]]) -> tuple[str, int]:
    name, _, send = item[0].partition("[")
    number = send.rstrip("]")
    return (name, int(number) if number.isdecimal() else -1)
