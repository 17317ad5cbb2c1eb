"""What a project's ``corral.toml`` may not decide, because it comes with the project.

Whoever wrote the file may be a stranger, or an agent that worked in the folder before. So it may
configure tools and ask for more questions, and it may let calls through that stay in the sandbox,
but it cannot open the sandbox, reach the user's keys or send anything out unasked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corral.errors import ConfigError
from corral.jsontypes import JsonObject
from corral.policies.presets import PRESETS

_USER_ONLY = (
    *("sandbox", "base_url", "database_url", "home", "workspace", "config"),
    *("otlp_endpoint", "otlp_content", "snapshots", "retention"),
)


def restrain(path: Path, data: JsonObject, user_file: Path) -> JsonObject:
    """The project's settings as far as they count.

    A rule that allows counts only for calls that stay in the sandbox. Raises ``ConfigError``
    that names the keys which belong into the user's own file.
    """
    refused = [*_settings(data), *_servers(path, data.get("mcp")), *_rules(data.get("rules"))]
    if refused:
        raise ConfigError(
            f"{path} may not set {', '.join(refused)}: the file belongs to the project.",
            hint=f"If you want it, write it into your own {user_file}, or use --config {path}.",
        )
    rules = data.get("rules")
    if not isinstance(rules, list):
        return data
    return {**data, "rules": [_within_the_sandbox(rule) for rule in rules]}


def _settings(data: JsonObject) -> Iterator[str]:
    yield from (key for key in _USER_ONLY if key in data)
    policy = data.get("policy")
    if policy is not None and policy not in PRESETS:
        yield "policy (other than a preset)"


def _servers(path: Path, servers: Any) -> Iterator[str]:
    for name, server in servers.items() if isinstance(servers, dict) else ():
        if not isinstance(server, dict):
            continue
        yield from (f"mcp.{name}.{key}" for key in ("sandbox", "trust") if key in server)
        # A project that could name the user's variables could send them to its server.
        if "${" in f"{server.get('env', '')}{server.get('headers', '')}":
            yield f"mcp.{name}: ${{VARIABLE}}"
        for key in ("grants", "writable"):
            folders = server.get(key, ())
            if isinstance(folders, list) and not all(_inside(path.parent, one) for one in folders):
                yield f"mcp.{name}.{key} outside of its folder"


def _rules(rules: Any) -> Iterator[str]:
    for number, rule in enumerate(rules if isinstance(rules, list) else (), start=1):
        allows = isinstance(rule, dict) and rule.get("action") == "allow"
        if allows and rule.get("sandboxed") is False:
            yield f"rule {number}: allow outside of the sandbox"


def _inside(folder: Path, text: Any) -> bool:
    if not isinstance(text, str):
        return True  # the settings say what is wrong with it
    whole = os.path.realpath(folder / Path(text).expanduser())
    return whole == os.path.realpath(folder) or whole.startswith(f"{os.path.realpath(folder)}/")


def _within_the_sandbox(rule: Any) -> Any:
    if isinstance(rule, dict) and rule.get("action") == "allow":
        return {**rule, "sandboxed": True}
    return rule
