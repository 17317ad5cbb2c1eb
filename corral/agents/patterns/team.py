"""The sub-agents that a pattern works with."""

from __future__ import annotations

from typing import Any

from corral.agents.spec import Agent
from corral.errors import ConfigError


def require_team(agent: Agent, least: int = 1) -> tuple[Agent, ...]:
    """The agent's own sub-agents. Raises ``ConfigError`` when there are fewer than ``least``."""
    if len(agent.agents) < least:
        raise ConfigError(
            f"The agent {agent.name!r} works as {agent.pattern} and has "
            f"{len(agent.agents) or 'no'} sub-agents: it needs {least} or more.",
            hint="Name them in its `agents`.",
        )
    return agent.members


def without_tools(agent: Agent) -> Agent:
    """The agent without tools of its own: no server is started for one that uses none."""
    none: dict[str, Any] = {"servers": (), "tools": None, "functions": (), "handoffs": {}}
    return agent.model_copy(update=none)
