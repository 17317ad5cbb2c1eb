"""The graph that an agent is: its nodes and ways, drawn or as Mermaid text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables.graph import Graph

from corral.agents.programs import build_program
from corral.agents.spec import Agent
from corral.cli.agents.drawing import Edge, draw, ordered
from corral.cli.agents.opening import open_services
from corral.runtime.config import Settings

_ENDS = {"__start__": "start", "__end__": "end"}


@dataclass(frozen=True)
class Shape:
    """Nodes, the start first and the end last, and the ways between them."""

    nodes: tuple[str, ...]
    edges: tuple[Edge, ...]
    mermaid: str

    def lines(self) -> list[str]:
        """The drawing."""
        return draw(ordered(self.nodes, self.edges), self.edges)


async def shape_of(agent: Agent, settings: Settings) -> Shape:
    """The graph of an agent whose team is complete. Opens no model and starts no server."""
    async with open_services(agent, settings) as services:
        compiled: Any = build_program(services).graph().compile()
        return _shape(compiled.get_graph())


def _shape(graph: Graph) -> Shape:
    edges = [
        Edge(_name(edge.source), _name(edge.target), edge.conditional, _label(edge.data))
        for edge in graph.edges
    ]
    nodes = sorted(map(_name, graph.nodes), key=lambda name: (name != "start", name == "end"))
    return Shape(tuple(nodes), _once(edges), graph.draw_mermaid())


def _once(edges: Sequence[Edge]) -> tuple[Edge, ...]:
    """One way for each pair of nodes: parallel ones look the same."""
    found = {(edge.source, edge.target): edge for edge in edges}
    return tuple(found.values())


def _name(node: str) -> str:
    return _ENDS.get(node, node)


def _label(data: object) -> str:
    return str(data) if data is not None else ""
