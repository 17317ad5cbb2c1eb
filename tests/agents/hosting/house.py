"""A workspace with scripted agents whose runs are served, here or in processes that are killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corral
from corral.agents.hosting.contract import Order, Report
from corral.agents.hosting.local import LocalRuns
from corral.runtime.approvals.replies import Given
from corral.runtime.events import ToolStarted
from tests.sandbox.inside import wait_until

ME, OTHER = "stdio:me", "stdio:other"

STAND = """
import pathlib, time
with open("begun.txt", "a") as log:
    log.write("begun\\n")
while not pathlib.Path("go.txt").exists():
    time.sleep(0.01)
print("done")
"""
"""What an agent runs that stands still in a call until it is let go on."""


def says(*texts: str) -> list[dict[str, Any]]:
    """Turns that only say something."""
    return [{"text": text} for text in texts]


def runs_code(code: str, answer: str = "All is done.") -> list[dict[str, Any]]:
    """A turn that runs Python code, and one that answers."""
    call = {"name": "python__run_code", "args": {"code": code}}
    return [{"text": "Let me see.", "tool_calls": [call]}, {"text": answer}]


@dataclass(frozen=True)
class House:
    """Where the agents are. Their calls are let through, unless it is ``asking``.

    ``database`` is the URL of one that is not a file in the house.
    """

    root: Path
    asking: bool = False
    database: str | None = None

    @property
    def workspace(self) -> Path:
        return self.root / "work"

    @property
    def config(self) -> Path:
        """The configuration file, which the user names."""
        return self.root / "house.toml"

    def agent(self, name: str, turns: Sequence[dict[str, Any]], **fields: Any) -> None:
        """Make an agent that answers with ``turns``."""
        self.workspace.mkdir(parents=True, exist_ok=True)
        script = self.root / f"{name}.yaml"
        script.write_text(json.dumps(list(turns)))
        made = {"model": f"scripted:{script}", "facts": 0, **fields}
        lines = [f"{key} = {_toml(value)}" for key, value in made.items()]
        with self.config.open("a") as file:
            file.write("\n".join([f"[agents.{name}]", *lines, ""]))

    def settings(self) -> corral.Settings:
        """The settings; read anew each time, as a new process does."""
        named: dict[str, Any] = {
            "home": self.root / "home",
            "workspace": self.workspace,
            "config": self.config,
        }
        if self.database is not None:
            named["database_url"] = self.database
        return corral.load_settings({**named, "policy": "ask" if self.asking else "workspace"})

    @asynccontextmanager
    async def open(self, account: str = "") -> AsyncIterator[tuple[corral.Corral, LocalRuns]]:
        """Work on the runs of this house in this process."""
        async with corral.open(self.settings()) as c, LocalRuns.open(c, account) as runs:
            yield c, runs

    @property
    def begun(self) -> int:
        """How often the call that stands still has really begun."""
        log = self.workspace / "begun.txt"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def let_go_on(self) -> None:
        """Let the call that stands still go on."""
        (self.workspace / "go.txt").touch()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


async def ended(runs: Any, run: str, owner: str = ME) -> Report:
    """How a run stands when it has ended, or waits for a human."""
    found: Report = await runs.wait(owner, run, 120.0)
    return found


async def until_begun(house: House, count: int = 1) -> None:
    """Wait until the call that stands still has begun."""
    await asyncio.to_thread(wait_until, lambda: house.begun >= count, "a call that begins", 120)


def child(house: House, moment: str) -> None:
    """Order something in this process, which is killed at a moment. Its run is in ``run.txt``."""
    asyncio.run(_child(house, moment))


async def _child(house: House, moment: str) -> None:
    async with house.open() as (_, runs):
        report = await runs.start(ME, Order("worker", "Do it."))
        (house.root / "run.txt").write_text(report.run)
        match moment:
            case "started":
                pass
            case "in a call":
                await until_begun(house)
            case "in the queue":
                await until_begun(house)
                queued = await runs.send(ME, report.run, "And once more.")
                assert queued.status == "queued"
                (house.root / "queued.txt").write_text(queued.run)
            case "in a model":
                async for event in runs.watch(ME, report.run):
                    assert not isinstance(event, ToolStarted)
                    break
        os.kill(os.getpid(), signal.SIGKILL)


async def answered(runs: LocalRuns, report: Report) -> Report:
    """Answer a call in doubt as a human who has looked: it had happened."""
    (question,) = report.approvals
    assert question.kind == "in_doubt"
    await runs.answer(ME, question.id, Given("done"), "elicitation:test")
    return await ended(runs, report.run)
