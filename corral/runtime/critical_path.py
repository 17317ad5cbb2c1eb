"""The critical path of a run: the chain of effects that determined how long it took.

Found from its end: the effect that ended last, before it the one that it had to wait for, and so
on (Kelley and Walker 1959). Had any of these been quicker, the run would have ended sooner; an
effect beside them only ran at the same time. What an effect waits for is what its path says comes
before it: the last to end of the step before, the effect before it in its task, the question to a
human about it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from corral.runtime.outline import Graph, Node, Step, milliseconds, outline
from corral.runtime.paths import asked_about, scope
from corral.runtime.views import EffectView, Record

CLOCK = 2.0
"""Milliseconds by which recorded times may be off: they are written to the millisecond."""

SLACK = 20.0
"""Milliseconds between two effects that need no explanation: the graph's own work."""


@dataclass(frozen=True)
class Segment(Record):
    """A piece of a run's time: what the effect ``seq`` took of it, in milliseconds.

    ``seq`` is ``None`` for a time in which nothing was recorded: the graph's own work, or nobody
    had resumed the run. ``begin_ms`` counts from the run's start.
    """

    seq: int | None
    kind: str
    begin_ms: float
    ms: float


@dataclass(frozen=True)
class CriticalPath(Record):
    """The effects that determined a run's wall time, and where that time went, in milliseconds.

    ``seqs`` are the effects on the path in the order of time, with the sub-agents around them.
    ``segments`` cover the wall time without a gap. ``wall_ms`` is the sum of the five others;
    ``human_ms`` was spent waiting for an answer, ``other_ms`` on effects of other kinds, and in
    ``unrecorded_ms`` no effect of the path was under way.
    """

    seqs: tuple[int, ...] = ()
    segments: tuple[Segment, ...] = ()
    wall_ms: float = 0.0
    model_ms: float = 0.0
    tool_ms: float = 0.0
    human_ms: float = 0.0
    other_ms: float = 0.0
    unrecorded_ms: float = 0.0


def critical_path(
    effects: Sequence[EffectView], *, since: str | None = None, until: str | None = None
) -> CriticalPath:
    """The critical path of a run whose journal is ``effects`` (for a fork: what it made itself).

    ``since`` and ``until`` say when the run began and ended (ISO 8601); left out, the first
    effect's start and the last one's end count. An effect without a recorded end lasts ``until``.
    """
    last = milliseconds(until)
    graph = outline(effects, last)
    nodes = list(graph.walk())
    first = milliseconds(since)
    if first is None:
        first = min((node.begin for node in nodes), default=last or 0.0)
    if last is None:
        last = max((node.end for node in nodes), default=first)
    chain = list(_Chain(graph, nodes).walk())
    segments = _segments(chain, first, max(first, last))
    return CriticalPath(
        seqs=tuple(node.effect.seq for node in sorted(chain, key=_order) if node.effect),
        segments=tuple(segments),
        wall_ms=_sum(segments),
        model_ms=_sum(s for s in segments if s.kind == "model"),
        tool_ms=_sum(s for s in segments if s.kind == "tool"),
        human_ms=_sum(s for s in segments if s.kind == "approval"),
        other_ms=_sum(s for s in segments if s.kind not in _NAMED),
        unrecorded_ms=_sum(s for s in segments if s.seq is None),
    )


def _order(node: Node) -> tuple[float, int]:
    """By time, a sub-agent before what is inside of it."""
    return (node.begin, node.path.count("/"))


_NAMED = ("model", "tool", "approval", "")


def _sum(segments: Sequence[Segment] | Iterator[Segment]) -> float:
    return round(sum(segment.ms for segment in segments), 3)


def _segments(chain: Sequence[Node], first: float, last: float) -> list[Segment]:
    """What each effect of the chain (newest first) took of the time from first to last."""
    found: list[Segment] = []
    cursor = last

    def take(until: float, seq: int | None, kind: str) -> None:
        nonlocal cursor
        until = max(first, until)
        if cursor > until:
            found.append(Segment(seq, kind, round(until - first, 3), round(cursor - until, 3)))
            cursor = until

    for node in chain:
        if node.effect is None or node.inside is not None:
            continue  # what is inside of it has taken the time
        take(node.end, None, "")
        take(node.begin, node.effect.seq, node.effect.kind)
    take(first, None, "")
    return found[::-1]


class _Chain:
    """The critical path from its end."""

    def __init__(self, graph: Graph, nodes: Sequence[Node]) -> None:
        self._root = graph
        self._owners = {f"{node.path}/": node for node in nodes if node.inside is not None}
        self._calls = {id(question): node for node in nodes for question in node.questions}
        self._places = {id(node): step for step in _steps(graph, nodes) for node in step.nodes()}
        asked = [n for n in nodes if n.effect is not None and n.effect.kind == "approval"]
        self._answers = sorted(asked, key=lambda node: node.end)
        self._ends = [node.end for node in self._answers]
        self._numbers: dict[int, list[int]] = {}

    def walk(self) -> Iterator[Node]:
        """The nodes of the path, the one that ended last first."""
        met: set[int] = set()
        node = _latest(self._root.nodes())
        while node is not None and id(node) not in met:
            met.add(id(node))
            yield node
            inner = _latest(node.inside.nodes()) if node.inside is not None else None
            node = inner if inner is not None else self._before(node)

    def _before(self, node: Node) -> Node | None:
        """What an effect waited for; that of the sub-agent around it where it was the first."""
        while True:
            found = self._waited_for(node)
            call = self._calls.get(id(node), node)
            owner = self._owners.get(_scope(call))
            if found is not None or owner is None:
                return found
            node = owner

    def _waited_for(self, node: Node) -> Node | None:
        found = _latest(node.questions) or self._earlier(self._calls.get(id(node), node), node)
        if found is None or node.begin - found.end > SLACK:
            return self._in_between(node, found)
        return found

    def _earlier(self, call: Node, node: Node) -> Node | None:
        """The last to end of what comes before a call in its own graph."""
        graph = self._graph(call)
        step = self._places.get(id(call))
        if step is None:
            before = [n for n in graph.nodes() if n.seq < node.seq and _in_time(n, node)]
            return _latest(before)
        once = [n for n in graph.once if n.seq < node.seq and _in_time(n, node)]
        return _latest(
            [*once, *(self._in_task(call, node, step) or self._step_before(graph, step))]
        )

    def _in_task(self, call: Node, node: Node, step: Step) -> list[Node]:
        mine = next(nodes for nodes in step.tasks.values() if call in nodes)
        return [other for other in mine[: mine.index(call)] if _in_time(other, node)]

    def _step_before(self, graph: Graph, step: Step) -> Iterator[Node]:
        numbers = self._numbers.get(id(graph))
        if numbers is None:
            numbers = self._numbers[id(graph)] = list(graph.steps)
        at = bisect_right(numbers, step.number) - 2
        return graph.steps[numbers[at]].nodes() if at >= 0 else iter(())

    def _graph(self, call: Node) -> Graph:
        owner = self._owners.get(_scope(call))
        graph = owner.inside if owner else None
        return graph or self._root

    def _in_between(self, node: Node, found: Node | None) -> Node | None:
        """What held an effect up that could have begun earlier by its path alone.

        Another question of the same pause, or an effect beside it that ended just before: only so
        many tasks run at once.
        """
        after = found.end if found is not None else float("-inf")
        at = bisect_right(self._ends, node.begin + CLOCK) - 1
        held = self._answers[at : at + 1] if at >= 0 else []
        step = self._places.get(id(node))
        beside = step.nodes() if step is not None and not node.questions else iter(())
        held += [n for n in beside if _in_time(n, node) and node.begin - n.end <= SLACK]
        return _latest(n for n in held if n.end > after and n.seq < node.seq) or found


def _steps(graph: Graph, nodes: Sequence[Node]) -> Iterator[Step]:
    yield from graph.steps.values()
    for node in nodes:
        if node.inside is not None:
            yield from node.inside.steps.values()


def _scope(node: Node) -> str:
    return scope(asked_about(node.path))


def _in_time(node: Node, other: Node) -> bool:
    """Whether a node had ended when another began."""
    return node.end <= other.begin + CLOCK


def _latest(nodes: Iterator[Node] | Sequence[Node]) -> Node | None:
    return max(nodes, key=lambda node: (node.end, node.seq), default=None)
