"""Which effects of two runs stand beside each other: two journals as trees, aligned level by level.

A journal is a tree: the run's graph, and inside of an effect the graph that it ran. On each level
the supersteps of both runs are aligned as sequences are (Needleman and Wunsch 1970), so that a
round more in one run does not shift all that comes after; in two supersteps that belong together,
effects are paired that ask for the same, then those at the same place, then those of the same kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from corral.jsontypes import Json, digest
from corral.runtime.outline import Graph, Node
from corral.runtime.paths import Place, asked_about, is_place, places
from corral.runtime.views import EffectView

T = TypeVar("T")

Aspects = Mapping[int, dict[str, Json]]
"""What is compared of each effect of a run, by its ``seq`` and by the aspects' names."""

_MOST_CELLS = 160_000
"""Supersteps of the one times those of the other, up to which the best alignment is looked for."""

_ONCE = Place(-1, "", 0)


@dataclass
class Item:
    """One effect, what is compared of it, and the graph that it ran.

    ``effect`` is ``None`` where a journal holds only what ran inside.
    """

    path: str
    effect: EffectView | None
    aspects: dict[str, Json]
    inside: Level

    @cached_property
    def place(self) -> Place:
        """Where in its own graph; a question stands where the call stands that it is about."""
        path = asked_about(self.path)
        return places(path)[-1] if is_place(path) else _ONCE

    @property
    def kind(self) -> str:
        """The effect's kind."""
        return self.effect.kind if self.effect else ""

    @cached_property
    def asked(self) -> tuple[str, str, str]:
        """What was asked for, wherever: kind, name and arguments. Another model asks the same."""
        if self.effect is None or self.kind == "model":
            return (self.kind, "", str(self.aspects.get("settings")))
        return (self.kind, self.effect.name, digest(self.aspects.get("arguments")))

    @cached_property
    def whole(self) -> str:
        """Equal for effects that are the same in all that is compared."""
        return digest([self.kind, self.aspects])

    def is_same(self, other: Item) -> bool:
        """Whether both are the same at the same place, with all that happened inside of them."""
        return (
            self.path == other.path
            and (is_shared(self.effect, other.effect) or self.whole == other.whole)
            and self.inside.is_same(other.inside)
        )


@dataclass
class Level:
    """One graph: what it asked for once, by name, and the effects of each of its supersteps."""

    once: dict[str, Item] = field(default_factory=dict)
    steps: list[list[Item]] = field(default_factory=list)

    @classmethod
    def of(cls, graph: Graph | None, aspects: Aspects) -> Level:
        """The effects of a graph, and of the graphs inside."""
        if graph is None:
            return cls()
        once = (item for node in graph.once for item in _items(node, aspects))
        return cls(
            once={item.path.rpartition("/")[2]: item for item in once},
            steps=[
                [item for node in step.nodes() for item in _items(node, aspects)]
                for step in graph.steps.values()
            ],
        )

    def is_same(self, other: Level) -> bool:
        """Whether the same happened in both, at the same places."""
        return (
            self.once.keys() == other.once.keys()
            and all(item.is_same(other.once[name]) for name, item in self.once.items())
            and len(self.steps) == len(other.steps) == common_steps(self.steps, other.steps)
        )

    def items(self) -> Iterator[Item]:
        """The effects of the graph itself."""
        yield from self.once.values()
        for step in self.steps:
            yield from step


def _items(node: Node, aspects: Aspects) -> Iterator[Item]:
    for question in node.questions:
        yield from _items(question, aspects)
    known = aspects.get(node.effect.seq, {}) if node.effect else {}
    yield Item(node.path, node.effect, known, Level.of(node.inside, aspects))


Couple = tuple[Item | None, Item | None]
"""Two effects that stand beside each other, or one that only one run has."""


def is_shared(a: EffectView | None, b: EffectView | None) -> bool:
    """Whether both are one entry, made by one run: what a fork has of its parent."""
    return a is not None and b is not None and a.run == b.run != "" and a.seq == b.seq


def common_steps(a: Sequence[list[Item]], b: Sequence[list[Item]]) -> int:
    """How many supersteps are the same in both, from the first one on."""
    for count, (mine, its) in enumerate(zip(a, b, strict=False)):
        if len(mine) != len(its) or not all(map(Item.is_same, mine, its)):
            return count
    return min(len(a), len(b))


def align(a: Level, b: Level) -> Iterator[Couple]:
    """All effects of both, in the order of the graph; those before the runs part come first."""
    kept: list[Couple] = []
    changed: list[Couple] = []
    for name in dict.fromkeys((*a.once, *b.once)):
        one, two = a.once.get(name), b.once.get(name)
        same = one is not None and two is not None and one.is_same(two)
        (kept if same else changed).append((one, two))
    part = common_steps(a.steps, b.steps)
    couples = [
        *kept,
        *(
            couple
            for pair in zip(a.steps[:part], b.steps[:part], strict=True)
            for couple in zip(*pair, strict=True)
        ),
        *changed,
    ]
    for couple in couples:
        yield from _with_inside(couple)
    for mine, its in _sequences(a.steps[part:], b.steps[part:]):
        for couple in _within(mine, its):
            yield from _with_inside(couple)


def _with_inside(couple: Couple) -> Iterator[Couple]:
    yield couple
    a, b = couple
    if a is not None and b is not None:
        yield from align(a.inside, b.inside)
        return
    for item in a.inside.items() if a else ():
        yield from _with_inside((item, None))
    for item in b.inside.items() if b else ():
        yield from _with_inside((None, item))


@dataclass(frozen=True)
class _Profile:
    """What of a superstep decides which one of the other run it belongs to."""

    step: int
    nodes: frozenset[str]
    names: frozenset[tuple[str, str]]
    asked: frozenset[tuple[str, str, str]]
    whole: frozenset[str]

    @classmethod
    def of(cls, items: list[Item]) -> _Profile:
        calls = [item for item in items if item.kind != "approval"] or items
        return cls(
            step=items[0].place.step,
            nodes=frozenset(_node(item) for item in items),
            names=frozenset(item.asked[:2] for item in calls),
            asked=frozenset(item.asked for item in calls),
            whole=frozenset(item.whole for item in calls),
        )

    def likeness(self, other: _Profile) -> float:
        """0 for steps of different nodes of the graph; most for the same calls and results."""
        if self.nodes.isdisjoint(other.nodes):
            return 0.0
        return (
            1.0
            + 0.5 * (self.step == other.step)
            + 1.0 * _overlap(self.names, other.names)
            + 2.0 * _overlap(self.asked, other.asked)
            + 4.0 * _overlap(self.whole, other.whole)
        )


def _node(item: Item) -> str:
    return item.place.task.partition("[")[0]


def _overlap(a: frozenset[T], b: frozenset[T]) -> float:
    return len(a & b) / max(len(a), len(b), 1)


def _sequences(a: list[list[Item]], b: list[list[Item]]) -> Iterator[tuple[list[Item], list[Item]]]:
    """Supersteps side by side; an empty list where the other run has none for it."""
    if len(a) * len(b) > _MOST_CELLS:
        yield from _by_number(a, b)
        return
    mine, its = [_Profile.of(step) for step in a], [_Profile.of(step) for step in b]
    best = _table(mine, its)
    i = j = 0
    while i < len(a) and j < len(b):
        likeness = mine[i].likeness(its[j])
        if likeness and best[i][j] == likeness + best[i + 1][j + 1]:
            yield a[i], b[j]
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            yield a[i], []
            i += 1
        else:
            yield [], b[j]
            j += 1
    yield from ((step, []) for step in a[i:])
    yield from (([], step) for step in b[j:])


def _table(a: list[_Profile], b: list[_Profile]) -> list[list[float]]:
    """``[i][j]``: the best likeness that the steps from ``i`` and from ``j`` on can have in sum."""
    best = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a) - 1, -1, -1):
        row, below, mine = best[i], best[i + 1], a[i]
        for j in range(len(b) - 1, -1, -1):
            likeness = mine.likeness(b[j])
            paired = likeness + below[j + 1] if likeness else 0.0
            row[j] = max(paired, below[j], row[j + 1])
    return best


def _by_number(a: list[list[Item]], b: list[list[Item]]) -> Iterator[tuple[list[Item], list[Item]]]:
    mine = {step[0].place.step: step for step in a}
    its = {step[0].place.step: step for step in b}
    for number in sorted({*mine, *its}):
        yield mine.get(number, []), its.get(number, [])


def _within(a: list[Item], b: list[Item]) -> list[Couple]:
    """The effects of two supersteps in pairs: what is alike, then what only one of them has."""
    partners: dict[int, Item] = {}
    for likeness in _PASSES:
        _pair(a, b, partners, likeness)
    taken = {id(item) for item in partners.values()}
    return [
        *((item, partners.get(id(item))) for item in a),
        *((None, item) for item in b if id(item) not in taken),
    ]


_PASSES: tuple[Callable[[Item], object], ...] = (
    lambda item: (item.place.task, item.place.index, item.asked, item.whole),
    lambda item: (item.asked, item.whole),
    lambda item: item.asked,
    lambda item: (item.place.task, item.place.index, item.asked[:2]),
    lambda item: item.asked[:2],
    lambda item: (_node(item), item.kind),
)
"""From what makes two effects surely one to what makes them merely of one kind."""


def _pair(
    a: list[Item], b: list[Item], partners: dict[int, Item], likeness: Callable[[Item], object]
) -> None:
    taken = {id(item) for item in partners.values()}
    free: dict[object, list[Item]] = {}
    for item in b:
        if id(item) not in taken:
            free.setdefault(likeness(item), []).append(item)
    for item in a:
        waiting = free.get(likeness(item)) if id(item) not in partners else None
        if waiting:
            partners[id(item)] = waiting.pop(0)
