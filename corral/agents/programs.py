"""Which graph an agent is: the caller's own, the ReAct loop, or another pattern's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from corral.agents.graph_program import GraphProgram
from corral.agents.kit import Kit
from corral.agents.patterns.contract import Graph
from corral.agents.patterns.react import loop
from corral.agents.patterns.registry import (
    equipped,
    find_pattern,
    own_kit,
    read_options,
)
from corral.agents.patterns.takeover import deciding_first
from corral.agents.react import ReactOptions
from corral.agents.services import AgentServices
from corral.runtime.program import Program

_OWN_VERSION = "own/1"
"""One for all: a replay and a resume say where changed code asks for something else."""


def build_program(services: AgentServices) -> Program:
    """The agent of ``services``, ready for the engine. Raises ``ConfigError`` for its options."""
    agent, options = services.agent, read_options(services.agent)
    if agent.graph is not None:
        program = GraphProgram(own_kit(agent, services), agent.graph, _OWN_VERSION)
        return _handing_over(program, agent.handoffs)
    pattern = find_pattern(agent.pattern)
    equipment = equipped(Kit(agent, services), pattern, options)
    if isinstance(options, ReactOptions):
        return loop(equipment, options)
    program = GraphProgram(
        equipment,
        lambda kit: pattern.build(kit, options),
        f"{pattern.name}/{pattern.version}",
        pattern.fresh,
    )
    return _handing_over(program, agent.handoffs)


def _handing_over(program: GraphProgram, when: Mapping[str, str]) -> GraphProgram:
    """The program, which decides first who goes on, if it makes no handoffs itself."""
    if when.keys() <= program.kit.agent.handoffs.keys():
        return program

    def build(kit: Kit) -> Graph:
        return deciding_first(kit, when, program.build(kit), program.fresh)

    return replace(program, build=build, fresh={})
