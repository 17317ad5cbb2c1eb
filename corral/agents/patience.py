"""How far the agents of a team may go, and how patient the watch over loops is with each."""

from __future__ import annotations

from corral.agents.spec import Agent
from corral.policies.limits import RunLimits
from corral.runtime.config import Settings
from corral.runtime.stations.loop_guard import AgentTerms


def agent_terms(agent: Agent, settings: Settings, limits: RunLimits | None) -> AgentTerms:
    """The terms of an agent and its team; what ``limits`` of the run say holds for every agent."""
    return AgentTerms(
        name=agent.name,
        limits=replaced_limits(agent.limits or settings.limits, limits),
        loops=agent.loops or settings.loops,
        team=tuple(
            agent_terms(member, settings, limits)
            for member in agent.agents
            if isinstance(member, Agent)
        ),
    )


def replaced_limits(limits: RunLimits, by: RunLimits | None) -> RunLimits:
    """Limits in which others are said anew: what those do not name stays."""
    if by is None:
        return limits
    return limits.model_copy(update={name: getattr(by, name) for name in by.model_fields_set})
