"""What is known of tools, servers and agents without starting any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from corral.agents.files.catalog import find_agents
from corral.mcp_servers.files import server as files
from corral.mcp_servers.files.workspace import Workspace
from corral.mcp_servers.python import server as python
from corral.mcp_servers.shell import server as shell
from corral.mcp_servers.tool import Effects
from corral.mcp_servers.web import server as web
from corral.policies.writing.cases import DEFAULT_AGENT, KnownTool
from corral.policies.writing.lint import Known
from corral.runtime.config import Settings

_NOWHERE = Path("/")
_MEMORY = {
    "remember": Effects(read_only=False, idempotent=True),
    "recall": Effects(read_only=True, idempotent=True),
}
_AGENTS = "agents"
_FUNCTIONS = "functions"


@dataclass(frozen=True)
class Tools:
    """The tools that there may be under some settings.

    Of a configured server only the configuration is known: what it says of its tools it says when
    it is started.
    """

    settings: Settings

    def find(self, name: str) -> KnownTool:
        """What is known of a tool by its name; of an unknown one the worst."""
        server, _, tool = name.partition("__")
        inside = server in self.settings.sandboxed_servers
        here = KnownTool(
            sandboxed=inside,
            network=not inside or server in self.settings.networked_servers,
            remote=server in self.settings.remote_servers,
        )
        effects = _own().get(server, {}).get(tool)
        if server == _AGENTS:
            effects = Effects(read_only=True)
        return here if effects is None else _with(here, effects)

    def known(self, more: Iterable[str]) -> Known:
        """What rules may name; ``more`` are servers and agents that Python code brings."""
        own = {server: frozenset(tools) for server, tools in _own().items()}
        agents = frozenset((DEFAULT_AGENT, *find_agents(self.settings).names))
        others = dict.fromkeys((*self.settings.mcp, _FUNCTIONS, *more))
        return Known(
            servers={**own, _AGENTS: agents | frozenset(more), **others},
            agents=agents | frozenset(more),
            now=datetime.now().astimezone(),
        )


def _own() -> Mapping[str, Mapping[str, Effects]]:
    """What our own tools do, by server and name."""
    return {
        "files": {name: tool.effects for name, tool in files.tools(Workspace([_NOWHERE])).items()},
        "python": python.EFFECTS,
        "shell": shell.EFFECTS,
        "web": web.EFFECTS,
        "memory": _MEMORY,
    }


def _with(here: KnownTool, effects: Effects) -> KnownTool:
    return KnownTool(
        read_only=effects.read_only,
        destructive=effects.destructive,
        idempotent=effects.idempotent,
        open_world=effects.open_world,
        sandboxed=here.sandboxed,
        network=here.network,
        remote=here.remote,
    )
