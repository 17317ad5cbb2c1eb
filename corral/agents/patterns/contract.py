"""What a pattern is: a graph that is built from options, over a ``Kit``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langgraph.graph import StateGraph

from corral.agents.kit import Kit
from corral.agents.patterns.options import Options
from corral.agents.spec import Agent

Graph = StateGraph[Any, Any, Any, Any]


def unchanged(agent: Agent, _options: Any) -> Agent:
    """The agent as it is."""
    return agent


@dataclass(frozen=True)
class Pattern:
    """One way of working.

    ``source`` is where it was described. ``build`` makes the graph, whose state has ``messages``;
    it adds one message to them, the answer. ``fresh`` are the values that its own channels have
    at the beginning of each run of a thread. ``version`` changes when stored runs can no longer go
    on. ``equip`` gives the agent what the pattern needs of it besides its options, and
    ``hands_over`` says that it can let another take over (``Agent.handoffs``).
    """

    name: str
    summary: str
    source: str
    options: type[Options]
    build: Callable[[Kit, Any], Graph]
    fresh: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    equip: Callable[[Agent, Any], Agent] = unchanged
    hands_over: bool = False
