"""Other clients' entries as ours: one shape for their many, and what could not be taken over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corral.jsontypes import JsonObject

_PLACE = re.compile(r"\$\{(env:|input:)?([^}${]{1,100})\}")
_ODD = re.compile(r"[^A-Za-z0-9_]")
_REMOTE = frozenset({"http", "streamable-http", "streamable_http", "streamableHttp"})
_LEFT_OUT = ("cwd", "envFile", "enabled_tools", "disabled_tools", "alwaysAllow", "autoApprove")


@dataclass(frozen=True)
class Taken:
    """One entry of another client: as ours, or why it cannot be one; notes for its user."""

    name: str
    entry: JsonObject = field(default_factory=dict)
    problem: str = ""
    notes: tuple[str, ...] = ()


def taken(name: str, theirs: Mapping[str, Any], workspace: Path, home: Path) -> Taken:
    """Another client's entry as one of ``corral.toml``; nothing of it is believed to be right."""
    called = re.sub(r"_{2,}", "_", re.sub(r"[^A-Za-z0-9_-]", "-", name)).strip("-_")[:32]
    if theirs.get("disabled") is True or theirs.get("enabled") is False:
        return Taken(called, problem="it is switched off there")
    kind = theirs.get("type", theirs.get("transport"))
    if kind == "sse":
        return Taken(called, problem="it uses the old SSE transport; ask for its /mcp address")
    reader = _Reader(workspace, home)
    entry = reader.remote(theirs) if "url" in theirs or kind in _REMOTE else reader.local(theirs)
    if not entry.get("url") and not entry.get("command"):
        return Taken(called, problem="it has neither a command nor an address")
    for ours, others in (
        ("startup_timeout", "startup_timeout_sec"),
        ("timeout", "tool_timeout_sec"),
    ):
        if isinstance(theirs.get(others), int | float):
            entry[ours] = float(theirs[others])
    lost = [key for key in _LEFT_OUT if theirs.get(key)]
    notes = [f"{', '.join(lost)}: not taken over"] if lost else []
    notes += [f"set {name} in your environment" for name in reader.needed]
    return Taken(called, {key: value for key, value in entry.items() if value}, "", tuple(notes))


@dataclass
class _Reader:
    """Reads one entry, and remembers the variables that its user must now set."""

    workspace: Path
    home: Path
    needed: list[str] = field(default_factory=list)

    def local(self, theirs: Mapping[str, Any]) -> JsonObject:
        """An entry with a command."""
        args = theirs.get("args")
        env = self._texts(theirs.get("env"))
        names = theirs.get("env_vars")
        env |= (
            {name: f"${{{name}}}" for name in names if isinstance(name, str)}
            if isinstance(names, list)
            else {}
        )
        return {
            "command": self._text(theirs.get("command", ""), fixed=True),
            "args": [self._text(one, fixed=True) for one in args] if isinstance(args, list) else [],
            "env": env,
        }

    def remote(self, theirs: Mapping[str, Any]) -> JsonObject:
        """An entry with an address."""
        headers = self._texts(theirs.get("headers")) | self._texts(theirs.get("http_headers"))
        named = self._texts(theirs.get("env_http_headers"))
        headers |= {header: f"${{{variable}}}" for header, variable in named.items()}
        if token := theirs.get("bearer_token_env_var"):
            headers["Authorization"] = f"Bearer ${{{token}}}"
        return {"url": self._text(theirs.get("url", ""), fixed=True), "headers": headers}

    def _texts(self, value: Any) -> dict[str, str]:
        items = value.items() if isinstance(value, dict) else ()
        return {key: self._text(one) for key, one in items if isinstance(one, str | int | float)}

    def _text(self, value: Any, *, fixed: bool = False) -> str:
        """A value with its places as ours are; in ``fixed`` ones we fill in only folders."""

        def place(match: re.Match[str]) -> str:
            kind, name = match.groups()
            folders = {"workspaceFolder": self.workspace, "userHome": self.home}
            if name in folders:
                return str(folders[name])
            variable = _ODD.sub("_", name).upper() if kind == "input:" else name
            if kind == "input:" and variable not in self.needed:
                self.needed.append(variable)
            return match[0] if fixed and not kind else f"${{{variable}}}"

        return _PLACE.sub(place, str(value))
