"""Graphs inside of graphs: what a node invokes runs inside of an effect's path, through one door.

They have no checkpoints of their own: after a pause or a crash they run again from their start, and
the journal hands them what they had.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

from langchain_core.runnables import RunnableLambda
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

from corral.errors import UsageError
from corral.runtime.context import current_scope, inside

Builder = StateGraph[Any, Any, Any, Any]
Compiled = CompiledStateGraph[Any, Any, Any, Any]


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
