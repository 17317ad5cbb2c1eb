"""Which graph an agent is: the caller's own, or the ReAct loop."""

from __future__ import annotations

from corral.agents.kit import GraphProgram, Kit
from corral.agents.react import ReactProgram
from corral.agents.services import AgentServices
from corral.runtime.program import Program


def build_program(services: AgentServices) -> Program:
    """The agent of ``services``, ready for the engine."""
    agent = services.agent
    if agent.graph is not None:
        return GraphProgram(Kit(agent, services))
    return ReactProgram(agent, services.model_ref, services)
