"""A run in a process of its own that is killed at a given write to the journal.

Boundaries are counted before and after each entry's start and end. The tools append to
``calls.log`` in the workspace, flushed at once: the truth about what really happened.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import corral
from corral.runtime.database import Database
from corral.runtime.journal import Journal

TURNS: list[dict[str, Any]] = [
    {
        "text": "Two at once.",
        "tool_calls": [
            {"name": "functions__append", "args": {"text": "one"}},
            {"name": "functions__append", "args": {"text": "two"}},
        ],
    },
    {"text": "A look.", "tool_calls": [{"name": "functions__look", "args": {}}]},
    {"text": "And one.", "tool_calls": [{"name": "functions__append", "args": {"text": "three"}}]},
    {"text": "All done."},
]


class Killer:
    """Counts boundaries and kills this process at the chosen one."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def boundary(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def instrument(killer: Killer) -> None:
    """Put a boundary on both sides of every write to the journal."""
    for name in ("start", "finish"):
        original = getattr(Journal, name)

        async def wrapped(self: Journal, *args: Any, _original: Any = original) -> Any:
            killer.boundary()
            result = await _original(self, *args)
            killer.boundary()
            return result

        setattr(Journal, name, wrapped)


def instrument_commits(killer: Killer) -> None:
    """Put a boundary on both sides of every transaction, whoever's it is."""
    original = Database._commit

    def wrapped(self: Database, batch: Any) -> None:
        killer.boundary()
        original(self, batch)
        killer.boundary()

    Database._commit = wrapped  # type: ignore[method-assign]  # in a process that is killed


def agent(workspace: Path) -> corral.Agent:
    """An agent whose tools leave a line for every call that really happened."""
    log = workspace / "calls.log"

    def write(text: str) -> None:
        with log.open("a") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())

    def append(text: str) -> str:
        """Append a line."""
        write(text)
        return f"appended {text}"

    @corral.tool(read_only=True)
    def look() -> str:
        """Look at nothing."""
        write("look")
        return "nothing"

    return corral.Agent(
        functions=(append, look), servers=(), chat_model=corral.ScriptedModel(TURNS), facts=0
    )


def child(home: Path, workspace: Path, kill_at: int, report: Path) -> None:
    """Start the run and be killed at boundary ``kill_at`` (0: never); then write the result."""
    asyncio.run(_run(home, workspace, kill_at, report))


async def _run(home: Path, workspace: Path, kill_at: int, report: Path) -> None:
    killer = Killer(kill_at)
    instrument(killer)
    async with corral.open(settings(home, workspace)) as c:
        result = await c.run("Do it.", corral.RunOptions(agent=agent(workspace)))
    report.write_text(json.dumps({"boundaries": killer.count, **result.to_json()}))


def settings(home: Path, workspace: Path) -> corral.Settings:
    """Settings that let the tools through, so that only a crash asks questions."""
    rules = [{"tool": "functions__*", "action": "allow"}]
    return corral.load_settings({"home": home, "workspace": workspace, "rules": rules})


def asking_child(home: Path, workspace: Path, kill_at: int, report: Path) -> None:
    """A run that asks, its answers one at a time, and another run; killed at a transaction."""
    asyncio.run(_ask(home, workspace, kill_at, report))


async def _ask(home: Path, workspace: Path, kill_at: int, report: Path) -> None:
    killer = Killer(kill_at)
    async with corral.open(asking_settings(home, workspace)) as c:
        instrument_commits(killer)
        options = corral.RunOptions(agent=agent(workspace))
        result = await c.run("Do it.", options)
        while result.status == "paused":
            await answer(c, result.approvals[0])
            result = await c.resume(result.run, options)
        again = dataclasses.replace(options, thread=result.thread, approver=approver)
        result = await c.run("Once more.", again)
    report.write_text(json.dumps({"boundaries": killer.count, **result.to_json()}))


async def approver(approval: corral.Approval) -> corral.Approved | corral.Denied:
    """One is edited, two is refused, everything else is let through."""
    if approval.kind == "tool" and approval.args == {"text": "one"}:
        return corral.Approved(args={"text": "uno"})
    return corral.Denied("not two") if approval.args == {"text": "two"} else corral.Approved()


async def answer(c: corral.Corral, approval: corral.Approval) -> None:
    """Answer as ``approver`` does."""
    match await approver(approval):
        case corral.Approved(args):
            await c.approve(approval.id, args=args)
        case corral.Denied(reason):
            await c.deny(approval.id, reason)


def asking_settings(home: Path, workspace: Path) -> corral.Settings:
    """Settings under which every append is asked about."""
    return corral.load_settings({"home": home, "workspace": workspace})
