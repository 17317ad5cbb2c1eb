"""An agent and all below it, as a tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from corral.cli.output import clean, one_line

if TYPE_CHECKING:
    from corral.agents.spec import Agent
    from corral.jsontypes import JsonObject


def team_lines(agent: Agent) -> Iterator[str]:
    """The tree: each agent with its pattern, its model and what it is for."""
    yield _told(agent)
    yield from _below(agent, "")


def team_json(agent: Agent) -> JsonObject:
    """The tree as JSON."""
    return {
        "name": agent.name,
        "pattern": agent.pattern,
        "model": agent.model,
        "description": agent.description,
        "agents": [team_json(member) for member in agent.members],
    }


def _below(agent: Agent, indent: str) -> Iterator[str]:
    for member in agent.members:
        is_last = member is agent.members[-1]
        yield f"{indent}{'└── ' if is_last else '├── '}{_told(member)}"
        yield from _below(member, indent + ("    " if is_last else "│   "))


def _told(agent: Agent) -> str:
    described = f"  {one_line(agent.description, 80)}" if agent.description else ""
    return f"{clean(agent.name)} ({clean(agent.pattern)}, {clean(str(agent.model))}){described}"
