"""Opening what an HTTP worker serves. Plain functions, since a worker may be another process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from corral.agents.hosting.place import Place
from corral.agents.hosting.remote import HostedRuns
from corral.mcp_servers.agents.provided import ProvidedTools
from corral.mcp_servers.agents.service import AgentService, Offering, Waits
from corral.runtime.config import Settings
from corral.sandbox.registry import select_backend
from corral.tools.builder import builtin_provider


@asynccontextmanager
async def open_agents(place: Place, what: str, wait: float) -> AsyncIterator[AgentService]:
    """Agents, all or one server's tools (``Offering.of``), over the runs of the host there."""
    async with HostedRuns.open(place) as runs:
        yield AgentService(runs, Offering.of(what), Waits(usual=wait))


@asynccontextmanager
async def open_tools(name: str, settings: Settings) -> AsyncIterator[ProvidedTools]:
    """One of our tool servers, in the sandbox."""
    backend = select_backend(settings.sandbox, settings.sandbox_require)
    provider = builtin_provider(name, backend, settings.workspace, settings.builtin)
    try:
        yield ProvidedTools(provider, settings.tool_timeout)
    finally:
        await provider.aclose()
