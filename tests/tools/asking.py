"""The server that asks, as an entry of the settings, and agents that call its tools."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corral
from corral.runtime.config import Settings, load_settings
from tests.tools.support import SERVERS

ERAS = ("legacy", "modern")


@dataclass(frozen=True)
class Asking:
    """Settings with the server ``ask`` in them, which speaks one era of the protocol."""

    settings: Settings
    notes: Path

    @classmethod
    def of(cls, settings: Settings, era: str, **entry: Any) -> Asking:
        """The same settings with the server."""
        notes = settings.workspace / "notes"
        script = str(SERVERS / "asking.py")
        server = {
            "command": sys.executable,
            "args": ["-S", "-E", script, era, str(notes)],
            "sandbox": False,
            **entry,
        }
        given = {"home": settings.home, "workspace": settings.workspace, "mcp": {"ask": server}}
        rule = {"server": "ask", "action": "allow", "untrusted": True}
        return cls(load_settings({**given, "rules": [rule]}), notes)

    def noted(self, about: str = "") -> list[str]:
        """What the server noted so far, of those lines that begin so."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [line for line in lines if line.startswith(about)]

    def say(self, word: str) -> None:
        """Change what the server says from now on."""
        with self.notes.open("a") as file:
            file.write(f"{word}\n")


def caller(*tools: str, args: dict[str, Any] | None = None, **fields: Any) -> corral.RunOptions:
    """An agent that calls these tools of the server in turn, and then is done."""
    turns = [{"text": "", "tool_calls": [{"name": f"ask__{t}", "args": args or {}}]} for t in tools]
    model = corral.ScriptedModel([*turns, {"text": "Done."}])
    agent = corral.Agent(servers=("ask",), chat_model=model, facts=0)
    return corral.RunOptions(agent=agent, **fields)


def given(text: str) -> dict[str, Any]:
    """What the server says that it was given."""
    found: dict[str, Any] = json.loads(text)
    return found
