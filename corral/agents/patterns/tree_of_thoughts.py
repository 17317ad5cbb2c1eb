"""Tree of thoughts: next steps are proposed and valued, and the promising ones gone on with.

Yao et al. 2023, "Tree of Thoughts: Deliberate Problem Solving with Large Language Models",
arXiv:2305.10601.

    START ─► choose ─► propose (one task per open thought) ─► admit ─► value (one per thought)
               │ ▲                                                         │
               │ └─────────────────────────────────────────────────────────┘
               └─► answer ─► END

``bfs`` goes on with every thought of a level, ``beam`` with the ``breadth`` best ones, ``dfs`` with
the best one, and back to the next best where it leads nowhere. What is valued below the
``threshold`` is not gone on with. It ends at a solution (``dfs``: the first; with a verifier: the
first that passes), when nothing is left at less than ``depth`` steps, or when the model calls are
used up, of which one is kept for the answer: it follows the best path that was found.
"""

from __future__ import annotations

from typing import Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send
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


class TreeOptions(SearchOptions):
    """The options of tree of thoughts."""

    search: Literal["bfs", "beam", "dfs"] = Field(
        default="beam", description="Which thoughts are gone on with first."
    )
    breadth: int = Field(
        default=2, ge=1, le=32, description="With beam: thoughts of a level that are gone on with."
    )
    threshold: float = Field(
        default=0.2, ge=0, le=1, description="The value below which a thought is given up."
    )


class State(SearchState, total=False):
    """``tree`` are the thoughts, of which those of ``open`` are to be gone on with, in this order.

    The rest is as in every search.
    """

    tree: list[Thought]
    open: list[int]


class _Search(Searching[TreeOptions]):
    """The nodes of the graph."""

    async def choose(self, state: State) -> Command[Any]:
        """Take what was valued into the tree, and say what is gone on with, if anything."""
        tree, valued, is_dfs = list(_tree(state)), state["valued"], self._options.search == "dfs"
        new = range(len(tree), len(tree) + len(valued))
        tree.extend(one["thought"] for one in valued)
        has_begun = state["calls"] > 0
        waiting = self._waiting(tree, state.get("open", []), new) if has_begun else [-1]
        left = self._left(state)
        chosen = waiting[: 1 if is_dfs else max(0, left)]
        update = {
            "tree": tree,
            "open": waiting[1:] if is_dfs else [],
            "proposed": EMPTY,
            "valued": EMPTY,
        }
        if left < 1 or not chosen or self._is_solved(tree):
            return Command(update=update, goto="answer")
        calls, messages = shared_out(left, len(chosen)), state["messages"]
        sends = [
            Send("propose", task_about(messages, tree, index, calls=calls)) for index in chosen
        ]
        return Command(update=update, goto=sends)

    def _waiting(self, tree: list[Thought], before: list[int], new: range) -> list[int]:
        """The thoughts that may be gone on with, the first one first."""
        options = self._options
        going = [i for i in new if not tree[i]["done"] and tree[i]["value"] >= options.threshold]
        if options.search != "bfs":
            going.sort(key=lambda index: -tree[index]["value"])
        if options.search == "beam":
            going = going[: options.breadth]
        return [*going, *before]

    def _is_solved(self, tree: list[Thought]) -> bool:
        if self._options.verifier:
            return any(one["solved"] for one in tree)
        ends_at_first = self._options.search == "dfs"
        return ends_at_first and any(
            one["done"] and one["value"] >= self._options.threshold for one in tree
        )

    async def admit(self, state: State) -> Command[Any]:
        """Have the new thoughts valued."""
        return Command(goto=self._to_value(state, _tree(state)) or "choose")

    async def answer(self, state: State) -> State:
        """The answer along the best path."""
        path = path_to(_tree(state), best_of(_tree(state)))
        return {"messages": [await self._thinking.answer(state["messages"], path)]}


def _tree(state: State) -> list[Thought]:
    return state.get("tree", [])


def build(kit: Kit, options: TreeOptions) -> Graph:
    """The graph."""
    nodes = _Search(kit, options)
    graph = StateGraph(State)
    graph.add_node("choose", nodes.choose, destinations=("propose", "answer"))
    graph.add_node("propose", nodes.propose, input_schema=Task)
    graph.add_node("admit", nodes.admit, destinations=("value", "choose"))
    graph.add_node("value", nodes.value, input_schema=Task)
    graph.add_node("answer", nodes.answer)
    graph.add_edge(START, "choose")
    graph.add_edge("propose", "admit")
    graph.add_edge("value", "choose")
    graph.add_edge("answer", END)
    return graph


PATTERN = Pattern(
    name="tree_of_thoughts",
    summary="Steps are proposed, valued, and gone on with where they are promising.",
    source="Yao et al. 2023, Tree of Thoughts, arXiv:2305.10601",
    options=TreeOptions,
    build=build,
    fresh={**FRESH, "tree": [], "open": []},
)
