"""The MCP clients that we know: where each keeps its servers, and how it writes one down.

Claude Code's and Codex's are checked with the programs (``tests/interop/test_clients.py``), the
others are as their documentation says.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from corral.errors import NotFoundError, UsageError
from corral.jsontypes import JsonObject

Scope = Literal["user", "project"]
Syntax = Literal["json", "jsonc", "toml"]

MANAGED = frozenset(
    {"type", "command", "args", "env", "env_vars", "url", "headers", "bearer_token_env_var"}
)
"""The keys of an entry that are ours to set; what else stands in it is the user's."""


_PATIENCE = 30
"""Seconds that Codex is told to wait for the first start of a busy machine, in place of its 10."""


@dataclass(frozen=True)
class Places:
    """The folders that clients' files are found from."""

    home: Path
    workspace: Path
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    platform: str = sys.platform

    def application(self, *parts: str) -> Path:
        """A desktop program's own folder."""
        if self.platform == "darwin":
            return self.home.joinpath("Library", "Application Support", *parts)
        return Path(self.environ.get("XDG_CONFIG_HOME") or self.home / ".config", *parts)

    def named(self, variable: str, otherwise: str) -> Path:
        """The folder that a variable names, else one below the home folder."""
        return Path(self.environ.get(variable) or self.home / otherwise)


@dataclass(frozen=True)
class Served:
    """What a client is to start, or to reach at ``url``.

    ``forwarded`` are variables of the user's that it hands on, by name. ``token_env`` is the
    variable with the token that goes with every request.
    """

    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    forwarded: tuple[str, ...] = ()
    url: str = ""
    token_env: str | None = None


@dataclass(frozen=True)
class Client:
    """One MCP client.

    ``variable`` is how its entries name a variable of the user's; ``None``: not. ``typed`` entries
    say their transport. ``bare``: it is started by a desktop, without the variables of a shell.
    ``modern``: it speaks 2026-07-28 first. ``limit`` is how many seconds a server has to start;
    ``hands`` are the variables that it hands on to servers, ``None`` for all of its own.
    """

    name: str
    title: str
    section: str
    syntax: Syntax
    user_file: Callable[[Places], Path]
    project_file: str | None = None
    variable: str | None = None
    typed: bool = False
    remote: bool = True
    bare: bool = True
    modern: bool = False
    limit: float = 60.0
    hands: tuple[str, ...] | None = None
    after: str = ""

    def file(self, places: Places, scope: Scope) -> Path:
        """The file of a scope. Raises ``UsageError`` for one that the client does not have."""
        if scope == "user":
            return self.user_file(places)
        if self.project_file is None:
            raise UsageError(
                f"{self.title} has no settings for a project.", hint="Leave --scope project out."
            )
        return places.workspace / self.project_file

    def entry(self, served: Served) -> JsonObject:
        """How this client writes down a server; without keys that would be empty.

        An address is for a client that reads one (``require_remote``).

        Raises ``UsageError`` for what the client cannot do.
        """
        if served.url:
            return self._remote(served)
        entry: JsonObject = {"type": "stdio"} if self.typed else {}
        entry |= {"command": served.argv[0], "args": list(served.argv[1:])}
        env = dict(served.env)
        if self.syntax == "toml":
            entry["startup_timeout_sec"] = _PATIENCE
            return entry | _filled(env_vars=list(served.forwarded), env=env)
        if served.forwarded and self.variable is None:
            name = served.forwarded[0]
            raise UsageError(
                f"{self.title} hands no variables of yours on to servers, so it cannot hand on "
                f"{name}.",
                hint=f"Give the value, which is then readable in its file: --env {name}=VALUE",
            )
        env |= {name: self.named(name) for name in served.forwarded}
        return entry | _filled(env=env)

    def named(self, variable: str) -> str:
        """How an entry names a variable of the user's, such as ``${env:NAME}``."""
        return (self.variable or "").replace("NAME", variable)

    def _remote(self, served: Served) -> JsonObject:
        token = served.token_env
        if self.syntax == "toml":
            return {"url": served.url} | _filled(bearer_token_env_var=token)
        entry: JsonObject = {"type": "http"} if self.typed else {}
        entry["url"] = served.url
        if token:
            entry["headers"] = {"Authorization": f"Bearer {self.named(token)}"}
        return entry

    def require_remote(self) -> None:
        """Raise ``UsageError`` for a client whose file can name no address."""
        if self.remote:
            return
        raise UsageError(
            f"{self.title} reads no addresses from its file.",
            hint="Leave --http out: then it starts Corral by itself, and so does a bundle: corral "
            "mcp bundle\nA server on the network can be added in its own settings, under "
            "Connectors. For one on this machine a bridge helps, such as mcp-remote from npm.",
        )

    def asks_for(self, served: Served) -> list[JsonObject]:
        """What the client itself must ask its user for, where its entries name inputs."""
        if not (self.variable or "").startswith("${input:"):
            return []
        names = dict.fromkeys((*served.forwarded, served.token_env or ""))
        return [
            {
                "type": "promptString",
                "id": name,
                "description": f"{name}, for Corral",
                "password": True,
            }
            for name in names
            if name and (name in served.forwarded or served.url)
        ]


def _filled(**given: object) -> JsonObject:
    return {key: value for key, value in given.items() if value}


_FEW = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")

CLIENTS: tuple[Client, ...] = (
    Client(
        name="claude-desktop",
        title="Claude Desktop",
        section="mcpServers",
        syntax="json",
        user_file=lambda places: places.application("Claude", "claude_desktop_config.json"),
        remote=False,
        hands=_FEW,
        after="Quit Claude Desktop and start it again; the server is in its settings, under "
        "Developer.",
    ),
    Client(
        name="claude-code",
        title="Claude Code",
        section="mcpServers",
        syntax="json",
        user_file=lambda places: places.named("CLAUDE_CONFIG_DIR", "") / ".claude.json",
        project_file=".mcp.json",
        variable="${NAME}",
        typed=True,
        bare=False,
        modern=True,
        limit=30.0,
        after="See it with: claude mcp list",
    ),
    Client(
        name="cursor",
        title="Cursor",
        section="mcpServers",
        syntax="json",
        user_file=lambda places: places.home / ".cursor" / "mcp.json",
        project_file=".cursor/mcp.json",
        variable="${env:NAME}",
        after="Cursor shows it in its settings, under MCP.",
    ),
    Client(
        name="vscode",
        title="VS Code",
        section="servers",
        syntax="jsonc",
        user_file=lambda places: places.application("Code", "User", "mcp.json"),
        project_file=".vscode/mcp.json",
        variable="${input:NAME}",
        typed=True,
        after="In VS Code, run: MCP: List Servers",
    ),
    Client(
        name="codex",
        title="Codex",
        section="mcp_servers",
        syntax="toml",
        user_file=lambda places: places.named("CODEX_HOME", ".codex") / "config.toml",
        project_file=".codex/config.toml",
        bare=False,
        limit=10.0,
        hands=_FEW,
        after="See it with: codex mcp list",
    ),
)


def find_client(name: str) -> Client:
    """A client by name. Raises ``NotFoundError``."""
    known = {client.name: client for client in CLIENTS}
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    raise NotFoundError(
        f"There is no MCP client {name!r} that we know.",
        hint=f"{meant}There are: {', '.join(known)}. For any other: corral mcp install "
        "claude-desktop --print shows what most of them want.",
    )
