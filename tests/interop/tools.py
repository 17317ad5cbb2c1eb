"""Where ``scripts/interop.sh`` has put other people's MCP clients, servers and checkers."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".cache" / "interop"

_PACKAGES = {
    "claude": "@anthropic-ai/claude-code",
    "codex": "@openai/codex",
    "conformance": "conformance",
    "conformance-stable": "conformance-stable",
    "everything": "@modelcontextprotocol/server-everything",
    "filesystem": "@modelcontextprotocol/server-filesystem",
    "inspector": "@modelcontextprotocol/inspector",
    "mcpb": "@anthropic-ai/mcpb",
    "memory": "@modelcontextprotocol/server-memory",
    "sequential-thinking": "@modelcontextprotocol/server-sequential-thinking",
}
_OLDER = frozenset({"mcp-server-sqlite"})
"""What needs the SDK before 2.0, and so an environment of its own."""


@dataclass(frozen=True)
class NodeTools:
    """The npm packages of ``tests/interop/node``, and the Node.js that runs them."""

    folder: Path

    @property
    def node(self) -> Path:
        """The interpreter, 22 or newer."""
        return (self.folder / "node").resolve()

    @property
    def env(self) -> dict[str, str]:
        """The test's own environment with that Node.js first on ``PATH``, and telemetry off."""
        quiet = {"NO_UPDATE_NOTIFIER": "1", "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1"}
        return {**os.environ, **quiet, "PATH": f"{self.node.parent}:{os.environ['PATH']}"}

    def command(self, name: str, *args: str) -> list[str]:
        """The command line of a tool: claude, codex, conformance, conformance-stable, inspector,
        mcpb, or of a server: everything, filesystem, memory, sequential-thinking.
        """
        package = self.folder / "node_modules" / _PACKAGES[name]
        named = json.loads((package / "package.json").read_text("utf-8"))["bin"]
        program = package / (named if isinstance(named, str) else next(iter(named.values())))
        if program.suffix == ".exe":  # a native program, whatever the platform
            return [str(program), *args]
        return [str(self.node), str(program), *args]


@dataclass(frozen=True)
class PythonServers:
    """The packages of ``tests/interop/python``, apart from Corral's own environment."""

    folder: Path

    @property
    def python(self) -> Path:
        """An interpreter with fastmcp and the newest SDK."""
        return self.folder / "current" / "bin" / "python"

    def command(self, name: str, *args: str) -> list[str]:
        """The command line of mcp-server-fetch, -git, -sqlite or -time, or of fastmcp."""
        environment = "older" if name in _OLDER else "current"
        return [str(self.folder / environment / "bin" / name), *args]


def missing(*folders: str) -> str:
    """Why the tools of ``folders`` cannot be used; empty when they can."""
    if all((PLACE / folder / "done").is_file() for folder in folders):
        return ""
    return "other people's MCP tools are not installed; run: bash scripts/interop.sh"
