"""Graphs inside of graphs: what a node invokes runs inside of an effect's path, through one door.

They have no checkpoints of their own: after a pause or a crash they run again from their start, and
the journal hands them what they had.
"""

from __future__ import annotations

from collections import defaultdict
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any

from langchain_core.runnables import RunnableLambda
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

from corral.errors import UsageError
from corral.runtime.context import current_scope, inside
from corral.runtime.lean_graph import LeanGraph

Builder = StateGraph[Any, Any, Any, Any]
Compiled = CompiledStateGraph[Any, Any, Any, Any]


def empty_graph(state: Any, *inputs: Any) -> Builder:
    """A graph over this type of state, for nodes to be added, some of which take ``inputs``.

    LangGraph reads such types for as long as a short run takes. Here it does so once a process.
    The nodes are called as those of a ``LeanGraph``.
    """
    found = copy(_read(state, inputs))
    found.nodes, found.edges, found.waiting_edges = {}, set(), set()
    found.branches = defaultdict(dict)
    return found


@lru_cache(maxsize=64)
def _read(state: Any, inputs: tuple[Any, ...]) -> Builder:
    builder: Builder = LeanGraph(state)
    for schema in inputs:
        builder.add_node(schema.__name__, RunnableLambda(_nothing), input_schema=schema)
    return builder


async def _nothing(_state: Any) -> dict[str, Any]:
    return {}


async def subgraph(graph: Builder | Compiled, state: Any) -> dict[str, Any]:
    """Invoke a graph from within a node of another, and return its final state.

    Its effects are journaled, approved, bounded and replayed as those of the outer graph.
    """
    with inside(current_scope.get().next_path()):
        return await invoke(graph, state)


async def invoke(graph: Builder | Compiled, state: Any) -> dict[str, Any]:
    """Run a graph in the current scope, which is not that of the graph around it."""
    builder = graph.builder if isinstance(graph, CompiledStateGraph) else graph
    ended: dict[str, Any] = await scoped(builder).compile(checkpointer=False).ainvoke(state)
    return ended


def scoped(builder: Builder) -> Builder:
    """The graph with every node that is a graph itself invoked as ``subgraph`` does."""
    found = copy(builder)
    found.nodes = dict(builder.nodes)
    for name, node in builder.nodes.items():
        if isinstance(node.runnable, CompiledStateGraph):
            found.nodes[name] = replace(node, runnable=_invoking(name, node.runnable))
    return found


def _invoking(name: str, graph: Compiled) -> Any:
    async def run(state: Any) -> dict[str, Any]:
        return await subgraph(graph, state)

    def refuse(_state: Any) -> Any:
        raise UsageError(f"The graph {name!r} is asynchronous: a run awaits it.")

    return RunnableLambda(refuse, run, name=name)
