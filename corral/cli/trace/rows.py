"""The rows of a trace's tree: which effect stands where, before anything is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from corral.runtime.outline import Graph, Node, Step
from corral.runtime.views import Totals


@dataclass(eq=False)
class Item:
    """An effect, or a heading over several (``node`` is ``None``): a step, or a branch of it."""

    label: str
    nodes: Sequence[Node]
    node: Node | None = None
    step: Step | None = None

    def children(self) -> Iterator[Item]:
        """What stands below it."""
        if self.node is not None:
            for beside in (*self.node.questions, *self.node.connections):
                yield Item("", [beside], beside)
            if self.node.inside is not None:
                yield from items(self.node.inside)
        elif self.step is not None and len(self.step.tasks) > 1:
            yield from _branches(self.step)
        else:
            for node in self.nodes:
                yield Item("", [node], node)

    @property
    def begin(self) -> float:
        """When the first of it began, in milliseconds since 1970."""
        return min(node.begin for node in self.nodes)

    @property
    def end(self) -> float:
        """When the last of it ended."""
        return max(node.end for node in self.nodes)


@dataclass(frozen=True)
class Row:
    """An item with the guides before its first line, and before its others."""

    guide: str
    rest: str
    item: Item


def items(graph: Graph) -> list[Item]:
    """What a graph did, in the order in which it began: effects made once, and steps."""
    found = [Item("", [node], node) for node in graph.once]
    found += [_step(step) for step in graph.steps.values()]
    return sorted(found, key=lambda item: min(node.seq for node in item.nodes))


def _step(step: Step) -> Item:
    nodes = list(step.nodes())
    label = f"step {step.number}"
    if len(nodes) > 1:
        return Item(label, nodes, step=step)
    (name,) = step.tasks
    (node,) = nodes
    kind = node.effect.kind if node.effect else ""
    # What the ReAct loop calls its nodes says nothing that the effect's kind does not.
    name = name.partition("[")[0]
    obvious = name in (kind, f"{kind}s", "tools")
    return Item(label if obvious else f"{label} {name}", nodes, node)


def _branches(step: Step) -> Iterator[Item]:
    names = {task.partition("[")[0] for task in step.tasks}
    for task, nodes in step.tasks.items():
        name, _, send = task.partition("[")
        number = send.rstrip("]")
        branch = f"branch {int(number) + 1}" if number.isdecimal() else ""
        label = " ".join(filter(None, [name if len(names) > 1 or not branch else "", branch]))
        yield Item(label, nodes, nodes[0] if len(nodes) == 1 else None)


def rows(graph: Graph, shown: Callable[[Item], bool]) -> Iterator[Row]:
    """The rows from top to bottom, without items that are not ``shown`` and what is below them."""
    stack = [("", [item for item in items(graph) if shown(item)][::-1])]
    while stack:
        around, waiting = stack[-1]
        if not waiting:
            stack.pop()
            continue
        item = waiting.pop()
        guide, rest = around, around
        if len(stack) > 1:
            guide, rest = (
                around + part for part in (("├─ ", "│  ") if waiting else ("└─ ", "   "))
            )
        below = [child for child in item.children() if shown(child)][::-1]
        yield Row(guide, f"{rest}{'│ ' if below else '  '}", item)
        stack.append((rest, below))


@dataclass
class Sums:
    """What effects used, with what was used inside of them: by node."""

    _by_node: dict[int, Totals] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph) -> Sums:
        """The sums of every node of a graph."""
        found = cls()
        for node in reversed(list(graph.walk())):
            found._add(node)
        return found

    def _add(self, node: Node) -> None:
        own = [] if node.effect is None else [node.effect]
        inside = (self._by_node[id(child)] for child in node.children())
        self._by_node[id(node)] = Totals.of([*own, *inside])

    def total(self, nodes: Iterable[Node]) -> Totals:
        """What these used together."""
        return Totals.of(self._by_node[id(node)] for node in nodes)
