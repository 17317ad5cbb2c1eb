"""What checks look at: how a run ended, what it did, and the folder that it leaves behind."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corral.jsontypes import Json, JsonObject
from corral.runtime.views import EffectView, RunResult

MAX_FILE = 4 * 1024 * 1024
"""Bytes of a file that are looked at."""


@dataclass(frozen=True)
class CaseOutcome:
    """How the run of a case ended, and its journal."""

    result: RunResult
    effects: list[EffectView]


@dataclass(frozen=True)
class ToolUse:
    """One tool call of a run. ``ok`` is false for one that failed, was refused or still waits."""

    name: str
    args: JsonObject
    ok: bool


@dataclass(frozen=True)
class Evidence:
    """What the checks of one trial are made against."""

    outcome: CaseOutcome
    workspace: Path

    @property
    def output(self) -> str:
        """The run's answer without white space around it."""
        return self.outcome.result.output.strip()

    def tool_uses(self) -> Iterator[ToolUse]:
        """The tool calls that the model made, in the order of the journal."""
        for effect in self.outcome.effects:
            if effect.kind == "tool":
                args = _field(effect.request, "args")
                ok = effect.status == "finished" and not _field(effect.result, "is_error")
                yield ToolUse(effect.name, args if isinstance(args, dict) else {}, ok)

    def read_file(self, path: str) -> str | None:
        """The text of a file in the workspace; ``None`` when there is no such regular file.

        The agent wrote the folder: links out of it and special files are not followed.
        """
        target = self.workspace / path
        try:
            if not target.resolve().is_relative_to(self.workspace.resolve()):
                return None
            descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except (OSError, ValueError, RuntimeError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return os.read(descriptor, MAX_FILE).decode("utf-8", "replace")
        finally:
            os.close(descriptor)


def _field(value: Json, name: str) -> Json:
    return value.get(name) if isinstance(value, dict) else None
