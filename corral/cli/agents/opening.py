"""An agent as it would run: with its team, the settings, and what it works with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from corral.agents.patterns.registry import read_options
from corral.agents.programs import build_program
from corral.agents.roster import Roster
from corral.agents.services import AgentServices, Shared
from corral.agents.spec import Agent
from corral.cli.context import open_records, quiet_logs
from corral.memory.store import MemoryStore
from corral.runtime.config import Settings
from corral.runtime.secrets import redactor_of


def effective(name: str | None, settings: Settings) -> Agent:
    """An agent by name or file with all that the settings decide. Raises as ``Roster.agent``."""
    return Roster(settings, redactor_of(settings)).agent(name, None)


@asynccontextmanager
async def open_services(agent: Agent, settings: Settings) -> AsyncIterator[AgentServices]:
    """What an agent works with. Nothing is started before it is used; it is closed at the end."""
    quiet_logs()
    async with open_records() as records:
        shared = Shared(settings, MemoryStore(records.database), records.database)
        try:
            model = agent.model or settings.model
            roles = frozenset(read_options(agent).roles())
            yield AgentServices(shared, agent, model, build_program, roles)
        finally:
            await shared.aclose()
