"""A graph whose nodes LangGraph calls without ceremony.

LangGraph runs each node as a sequence of its own: in a task with a copy of the context, with
callbacks before and after it and before each of its writes. That is a quarter of what a step costs,
and nobody listens: the journal is the trace. Here a node is called where it stands.

For nodes that leave no context variable changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

AnyRunnable = Runnable[Any, Any]


class LeanGraph(StateGraph[Any, Any, Any, Any]):
    """A ``StateGraph`` of asynchronous nodes, to be run by ``ainvoke``."""

    def compile(self, *args: Any, **options: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
        """See ``StateGraph.compile``."""
        graph = super().compile(*args, **options)
        for node in map(graph.nodes.__getitem__, self.nodes):
            node.node = _Direct(node.bound, node.flat_writers)
        return graph


class _Direct(AnyRunnable):
    """What a node does, and then its writes."""

    def __init__(self, bound: AnyRunnable, writers: Sequence[AnyRunnable]) -> None:
        self._bound = bound
        self._writers = writers

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002  the base class names it so
        """Not there: a graph of asynchronous nodes has no other way than ``ainvoke``."""
        raise NotImplementedError("a LeanGraph is run by ainvoke")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002  the base class names it so
        """Call the node, which finds ``config`` as in any other graph."""
        token = var_child_runnable_config.set(config)
        try:
            output = await self._bound.ainvoke(input, config, **kwargs)
        finally:
            var_child_runnable_config.reset(token)
        for writer in self._writers:
            await writer.ainvoke(output, config)
        return output
