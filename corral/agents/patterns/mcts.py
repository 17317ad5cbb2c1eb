"""Monte Carlo tree search over thoughts: what did well is looked at closer, what was not seen too.

UCT: Kocsis and Szepesvári 2006, "Bandit Based Monte-Carlo Planning"; with a language model: Zhou et
al. 2023, "Language Agent Tree Search", arXiv:2310.04406. A value of the model's takes the place of
a random playout, so that all chance is in what the model says.

    START ─► select ─► expand ─► admit ─► value (one task per thought)
               │ ▲                               │
               │ └──────────── backup ◄──────────┘
               └─► answer ─► END

``select`` goes from the root to a leaf by UCB1, mean + ``exploration`` * sqrt(ln(visits of the
parent) / visits). It ends at a solution that the verifier passes, when the tree is searched to its
``depth``, or when the model calls are used up, of which one is kept for the answer. The answer
follows the children that were visited most, to a leaf; or the best path, with ``final`` = value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from pydantic import Field

from corral.agents.kit import Kit
from corral.agents.patterns.contract import Graph, Pattern
from corral.agents.patterns.searching import FRESH, Searching, SearchState
from corral.agents.patterns.state import EMPTY
from corral.agents.patterns.thoughts import (
    SearchOptions,
    Task,
    Thought,
    best_of,
    path_to,
    shared_out,
    task_about,
)

ROOT = -1
"""What stands for the request itself, before the first thought."""


class MctsOptions(SearchOptions):
    """The options of the search."""

    exploration: float = Field(
        default=1.4, ge=0, le=10, description="The weight of what was seldom looked at."
    )
    final: Literal["visits", "value"] = Field(
        default="visits", description="The answer follows what was visited most, or valued best."
    )


class Node(Thought):
    """A thought, how often it was visited, and the sum of the values that were found below it.

    ``closed``: there is nothing below it that could still be looked at.
    """

    visits: int
    total: float
    closed: bool


class State(SearchState, total=False):
    """``tree`` are the thoughts, and ``leaf`` the one that is expanded now."""

    tree: list[Node]
    leaf: int


class _Search(Searching[MctsOptions]):
    """The nodes of the graph."""

    async def select(self, state: State) -> Command[Any]:
        """Find the leaf to expand, if there is one."""
        tree, left = _tree(state), self._left(state)
        is_solved = any(node["solved"] for node in tree)
        is_over = state["calls"] > 0 and not _children(tree, ROOT, closed=False)
        if left < 1 or is_solved or is_over:
            return Command(goto="answer")
        leaf = selected(tree, self._options.exploration)
        return Command(update={"leaf": leaf}, goto="expand")

    async def expand(self, state: State) -> SearchState:
        """The next steps after the leaf."""
        calls = shared_out(self._left(state), 1)
        task = task_about(state["messages"], _tree(state), state["leaf"], calls=calls)
        return await self.propose(task)

    async def admit(self, state: State) -> Command[Any]:
        """Have the new thoughts valued."""
        return Command(goto=self._to_value(state, _tree(state)) or "backup")

    async def backup(self, state: State) -> dict[str, Any]:
        """Let all thoughts above know what was found."""
        tree = backed_up(_tree(state), state["leaf"], [one["thought"] for one in state["valued"]])
        return {"tree": tree, "proposed": EMPTY, "valued": EMPTY}

    async def answer(self, state: State) -> State:
        """The answer along the path that stands out."""
        tree = _tree(state)
        is_solved = any(node["solved"] for node in tree)
        by_value = is_solved or self._options.final == "value"
        end = best_of(tree) if by_value else most_visited(tree)
        path = path_to(tree, end)
        return {"messages": [await self._thinking.answer(state["messages"], path)]}


def selected(tree: Sequence[Node], exploration: float) -> int:
    """The leaf at which UCB1 arrives from the root; of equal children it takes the first."""
    at, visits = ROOT, sum(tree[child]["visits"] for child in _children(tree, ROOT))
    while children := _children(tree, at, closed=False):
        log = math.log(max(1, visits))
        bounds = [ucb1(tree[child], log, exploration) for child in children]
        at = children[bounds.index(max(bounds))]
        visits = tree[at]["visits"]
    return at


def ucb1(node: Node, log_visits: float, exploration: float) -> float:
    """The upper confidence bound of a node (Auer et al. 2002), of ln(visits of its parent)."""
    mean = node["total"] / node["visits"]
    return mean + exploration * math.sqrt(log_visits / node["visits"])


def backed_up(tree: Sequence[Node], leaf: int, found: Sequence[Thought]) -> list[Node]:
    """The tree with new thoughts below a leaf, their values in all that is above, and what is over
    closed. A leaf after which nothing comes is over.
    """
    grown = [Node(**node) for node in tree]
    for thought in found:
        value = thought["value"]
        grown.append(Node(**thought, visits=1, total=value, closed=thought["done"]))
        at = leaf
        while at != ROOT:
            grown[at]["visits"] += 1
            grown[at]["total"] += value
            at = grown[at]["parent"]
    at = leaf
    while at != ROOT and not _children(grown, at, closed=False):
        grown[at]["closed"] = True
        at = grown[at]["parent"]
    return grown


def most_visited(tree: Sequence[Node]) -> int:
    """The leaf to which the most visited children lead; of equal ones the better valued counts."""
    at = ROOT
    while children := _children(tree, at):
        at = max(children, key=lambda child: (tree[child]["visits"], tree[child]["total"]))
    return at


def _children(tree: Sequence[Node], parent: int, *, closed: bool | None = None) -> list[int]:
    return [
        index
        for index, node in enumerate(tree)
        if node["parent"] == parent and closed in (None, node["closed"])
    ]


def _tree(state: State) -> list[Node]:
    return state.get("tree", [])


def build(kit: Kit, options: MctsOptions) -> Graph:
    """The graph."""
    nodes = _Search(kit, options)
    graph = StateGraph(State)
    graph.add_node("select", nodes.select, destinations=("expand", "answer"))
    graph.add_node("expand", nodes.expand)
    graph.add_node("admit", nodes.admit, destinations=("value", "backup"))
    graph.add_node("value", nodes.value, input_schema=Task)
    graph.add_node("backup", nodes.backup)
    graph.add_node("answer", nodes.answer)
    graph.add_edge(START, "select")
    graph.add_edge("expand", "admit")
    graph.add_edge("value", "backup")
    graph.add_edge("backup", "select")
    graph.add_edge("answer", END)
    return graph


PATTERN = Pattern(
    name="mcts",
    summary="A tree of thoughts is searched where it did well, and where it was seldom looked at.",
    source="Zhou et al. 2023, Language Agent Tree Search, arXiv:2310.04406; Kocsis and Szepesvári "
    "2006, Bandit Based Monte-Carlo Planning",
    options=MctsOptions,
    build=build,
    fresh={**FRESH, "tree": [], "leaf": ROOT},
)
