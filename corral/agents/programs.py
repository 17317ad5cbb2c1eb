"""Which graph an agent is: the caller's own, the ReAct loop, or another pattern's."""

from __future__ import annotations

from corral.agents.graph_program import GraphProgram
from corral.agents.kit import Kit
from corral.agents.patterns.react import loop
from corral.agents.patterns.registry import equipped, find_pattern, read_options
from corral.agents.react import ReactOptions
from corral.agents.services import AgentServices
from corral.runtime.program import Program

_OWN_VERSION = "own/1"
"""One for all: a replay and a resume say where changed code asks for something else."""


def build_program(services: AgentServices) -> Program:
    """The agent of ``services``, ready for the engine. Raises ``ConfigError`` for its options."""
    agent, options = services.agent, read_options(services.agent)
    if agent.graph is not None:
        return GraphProgram(Kit(agent, services), agent.graph, _OWN_VERSION)
    if isinstance(options, ReactOptions):
        return loop(Kit(agent, services), options)
    pattern = find_pattern(agent.pattern)
    return GraphProgram(
        equipped(Kit(agent, services), pattern, options),
        lambda kit: pattern.build(kit, options),
        f"{pattern.name}/{pattern.version}",
        pattern.fresh,
    )
