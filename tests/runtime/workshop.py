"""Agents whose one tool does to the workspace whatever a test wants, and what is there then."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import corral
from corral.runtime.views import RunResult
from tests.runtime.agents import scripted, turn

Deed = Callable[[], object]


def settings(home: Path, workspace: Path, **more: Any) -> corral.Settings:
    """Settings that let the tools through."""
    rules = [{"tool": "functions__*", "action": "allow"}]
    return corral.load_settings({"home": home, "workspace": workspace, "rules": rules, **more})


def doing(*deeds: Deed) -> corral.Agent:
    """An agent that does the deeds, one a step, and says ``done``."""

    def do(number: int) -> str:
        """Do something."""
        deeds[number]()
        return "did it"

    turns = [turn("", do={"number": number}) for number in range(len(deeds))]
    return scripted([*turns, turn("done")], do)


async def run(
    c: corral.Corral, agent: corral.Agent, prompt: str = "Go.", thread: str | None = None
) -> RunResult:
    """A run that completes."""
    result = await c.run(prompt, corral.RunOptions(agent=agent, thread=thread))
    assert result.status == "completed", result.error
    return result


def listing(folder: Path) -> dict[bytes, tuple[Any, ...]]:
    """Everything under a folder: kind, permissions, and content or target."""
    return {os.fsencode(path.relative_to(folder)): _entry(path) for path in folder.rglob("*")}


def _entry(path: Path) -> tuple[Any, ...]:
    status = path.lstat()
    mode = oct(stat.S_IMODE(status.st_mode))
    if stat.S_ISLNK(status.st_mode):
        return "link", path.readlink()
    if stat.S_ISREG(status.st_mode):
        return "file", mode, path.read_bytes()
    return oct(stat.S_IFMT(status.st_mode)), mode


def untouched(path: Path) -> tuple[int, ...]:
    """What changes when a file is written, renamed over or given other permissions."""
    status = path.lstat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
