"""How far the agents of a team may go, and how patient the watch over loops is with each."""

from __future__ import annotations

from typing import Literal

from corral.agents.patterns.react import NAME as REACT
from corral.agents.spec import Agent
from corral.policies.limits import RunLimits
from corral.runtime.config import Settings
from corral.runtime.stations.loop_guard import AgentTerms

_STEPS_OF_A_PATTERN = 200
"""Model calls of an agent whose pattern has bounds of its own, where nobody has said how many."""


def agent_terms(agent: Agent, settings: Settings, limits: RunLimits | None) -> AgentTerms:
    """The terms of an agent and its team; what ``limits`` of the run say holds for every agent."""
    of_run = limits.model_fields_set if limits else set()
    own: set[Literal["steps", "loops"]] = set()
    if agent.limits is not None and "max_steps" not in of_run:
        own.add("steps")
    if agent.loops is not None:
        own.add("loops")
    return AgentTerms(
        name=agent.name,
        limits=replaced_limits(limits_of(agent, settings), limits),
        loops=agent.loops or settings.loops,
        team=tuple(agent_terms(member, settings, limits) for member in agent.members),
        own=frozenset(own),
    )


def limits_of(agent: Agent, settings: Settings) -> RunLimits:
    """An agent's own limits, or those of the settings."""
    limits = agent.limits or settings.limits
    if agent.pattern == REACT or "max_steps" in limits.model_fields_set:
        return limits
    return limits.model_copy(update={"max_steps": _STEPS_OF_A_PATTERN})


def replaced_limits(limits: RunLimits, by: RunLimits | None) -> RunLimits:
    """Limits in which others are said anew: what those do not name stays."""
    if by is None:
        return limits
    return limits.model_copy(update={name: getattr(by, name) for name in by.model_fields_set})
