"""What a project's ``corral.toml`` may not decide, because it comes with the project.

Whoever wrote the file may be a stranger, or an agent that worked in the folder before. So it may
configure tools and ask for more questions, and it may let calls through that stay in the sandbox,
but it cannot open the sandbox, reach the user's keys or send anything out unasked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from corral.errors import ConfigError
from corral.jsontypes import JsonObject
from corral.policies.presets import PRESETS
from corral.runtime.redaction_settings import refused_in_project
from corral.sandbox.guest.names import PROTECTED

_USER_ONLY = (
    *("sandbox", "base_url", "database_url", "home", "workspace", "config"),
    *("otlp_endpoint", "otlp_content", "snapshots", "retention", "approvals", "loops", "prices"),
    *("provenance", "sandbox_require", "sandbox_limits", "e2b", "web", "sql", "git"),
    *("python", "local", "hosted", "cache", "serve"),
)

_SERVER_USER_ONLY = ("sandbox", "trust", "network", "inject", "limits", "sampling", "oauth")

_MERGED = frozenset({"budget", "limits", "checks"})

_PRESETS = tuple(name for name in PRESETS if name != "trusted")


def restrain(
    path: Path, data: JsonObject, user_file: Path, users: Sequence[JsonObject] = ()
) -> JsonObject:
    """The project's settings as far as they count; ``users`` are those of the user's own files.

    Raises ``ConfigError`` that names the keys which belong into the user's own file. Its rules are
    restrained where they are read (``policy_layers.py``).
    """
    refused = [*_settings(data), *_servers(path, data.get("mcp")), *_rules(data.get("rules"))]
    refused += refused_in_project(data)
    for theirs in users:
        refused += _of_the_users(data, theirs)
    if refused:
        raise ConfigError(
            f"{path} may not set {', '.join(refused)}: the file belongs to the project.",
            hint=f"If you want it, write it into your own {user_file}, or use --config {path}.",
        )
    return data


def _settings(data: JsonObject) -> Iterator[str]:
    yield from (key for key in _USER_ONLY if key in data)
    agents = data.get("agents")
    for name, agent in agents.items() if isinstance(agents, dict) else ():
        if isinstance(agent, dict):
            yield from (f"agents.{name}.{key}" for key in refused_of_agent(agent))
    policy = data.get("policy")
    if policy is not None and policy not in _PRESETS:
        yield f"policy (other than {', '.join(_PRESETS)})"


def refused_of_agent(agent: JsonObject) -> Iterator[str]:
    """What a project may not say of an agent, in ``corral.toml`` or in the agent's own file."""
    if "loops" in agent:
        yield "loops"
    policy = agent.get("policy")
    name = policy.get("name") if isinstance(policy, dict) else policy
    if isinstance(name, str) and name not in PRESETS:
        yield f"policy (other than rules, and {', '.join(PRESETS)})"


def _servers(path: Path, servers: Any) -> Iterator[str]:
    for name, server in servers.items() if isinstance(servers, dict) else ():
        if not isinstance(server, dict):
            continue
        yield from (f"mcp.{name}.{key}" for key in _SERVER_USER_ONLY if key in server)
        # A project that could name the user's variables could send them to its server.
        if "${" in f"{server.get('env', '')}{server.get('headers', '')}":
            yield f"mcp.{name}: ${{VARIABLE}}"
        for key in ("grants", "writable"):
            folders = server.get(key, ())
            if isinstance(folders, list) and not all(_inside(path.parent, one) for one in folders):
                yield f"mcp.{name}.{key} outside of its folder"
        if _opens_protected(path.parent, server.get("writable", ())):
            yield f"mcp.{name}.writable of .git or corral.toml"


def _of_the_users(data: JsonObject, users: JsonObject) -> Iterator[str]:
    """What would change a server or an agent of the user's own.

    A server of the same name would get the user's trust, headers and freedom for its own program.
    Spending is only ever lowered, and checks are only ever added, so these may be said here.
    """
    for name in _tables(data, "mcp").keys() & _tables(users, "mcp").keys():
        yield f"mcp.{name} (a server of your own)"
    for name in _tables(data, "models").keys() & _tables(users, "models").keys():
        yield f"models.{name} (a model of your own)"
    mine = _tables(users, "agents")
    for name, agent in _tables(data, "agents").items():
        for key in sorted(agent.keys() & mine.get(name, {}).keys() - _MERGED):
            yield f"agents.{name}.{key} (an agent of your own)"


def _tables(data: JsonObject, section: str) -> dict[str, JsonObject]:
    """The tables of a section, by name; what is malformed is left for the settings to refuse."""
    found = data.get(section)
    tables = found.items() if isinstance(found, dict) else ()
    return {name: table for name, table in tables if isinstance(table, dict)}


def _rules(rules: Any) -> Iterator[str]:
    for number, rule in enumerate(rules if isinstance(rules, list) else (), start=1):
        if not isinstance(rule, dict) or rule.get("action") != "allow":
            continue
        if rule.get("sandboxed") is False:
            yield f"rule {number}: allow outside of the sandbox"
        for key in ("untrusted", "private"):
            if rule.get(key) is True:
                yield f"rule {number}: allow with {key} = true"


def _opens_protected(folder: Path, folders: Any) -> bool:
    """Whether a server could change what runs outside of the sandbox: git's hooks, this file."""
    named = [one for one in folders if isinstance(one, str)] if isinstance(folders, list) else []
    real = [os.path.relpath(_real(folder, one), os.path.realpath(folder)) for one in named]
    parts = {part.lower() for one in (*named, *real) for part in Path(one).parts}
    return not parts.isdisjoint(PROTECTED)


def _real(folder: Path, text: str) -> str:
    return os.path.realpath(folder / Path(text).expanduser())


def _inside(folder: Path, text: Any) -> bool:
    if not isinstance(text, str):
        return True  # the settings say what is wrong with it
    whole = _real(folder, text)
    return whole == os.path.realpath(folder) or whole.startswith(f"{os.path.realpath(folder)}/")
