"""What is told of a run while a call waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from corral.agents.hosting.contract import Report, Runs
from corral.mcp_servers.agents.asking import Attention
from corral.mcp_servers.agents.following import Follower
from corral.runtime.events import (
    AgentStarted,
    Event,
    Notice,
    TextDelta,
    ToolFinished,
    ToolStarted,
)
from tests.mcp_servers.agents.clients import ME, Line

EVENTS: tuple[Event, ...] = (
    TextDelta("Secret thoughts.", path="1.model#0"),
    ToolStarted("files__read_file", {"path": "secret.txt"}, path="2.tools#0"),
    ToolFinished("files__read_file", "secret", is_error=True, duration_ms=1.0, path="2.tools#0"),
    AgentStarted("expert\x1b[2J", {"task": "secret"}, path="3.tools#0"),
    Notice("The model\nis slow."),
)


class Told:
    """A run that ends when all of ``EVENTS`` were told."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.is_closed = False

    async def watch(self, _owner: str, _run: str) -> AsyncIterator[Event]:
        try:
            for event in EVENTS:
                yield event
            await asyncio.Event().wait()
        finally:
            self.is_closed = True

    async def wait(self, _owner: str, run: str, _seconds: float) -> Report:
        while len(self._line.progressed) < 4:
            self._line.heard.clear()
            await self._line.heard.wait()
        return Report(run=run, thread="t-1", agent="writer", status="completed", answer="Done.")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not called")


async def test_progress_names_what_is_done_and_tells_nothing_that_was_read() -> None:
    line = Line()
    runs = Told(line)
    follower = Follower(cast("Runs", runs), Attention())
    followed = await follower.follow(ME, "r-1", 30.0, line)
    assert followed.report.answer == "Done."
    assert line.progressed == [
        "calls files__read_file",
        "files__read_file gave an error",
        "gives a task to expert",
        "The model is slow.",
    ]
    assert runs.is_closed
