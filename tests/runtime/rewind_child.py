"""A rewind in a process of its own that is killed while it puts the files back.

It dies before or after a change to a path is made, or between writing a file beside its place
and renaming it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import corral
from corral.runtime.snapshots import restore
from tests.runtime.workshop import doing, listing, run, settings

POINTS = 22
"""How many points of death there are."""


class Killer:
    """Counts and kills this process at the chosen point."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def point(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def instrument(killer: Killer) -> None:
    """Put points of death around every path that is worked on, and before every rename."""
    each, write = restore.Restorer._each, restore._write

    def around(self: restore.Restorer, changes: Any, act: Any) -> dict[str, str]:
        def one(*args: Any) -> str | None:
            killer.point()
            problem: str | None = act(*args)
            killer.point()
            return problem

        return each(self, changes, one)

    def written(*args: Any) -> None:
        write(*args)
        killer.point()

    restore.Restorer._each = around  # type: ignore[method-assign]  # in a process that is killed
    restore._write = written  # type: ignore[assignment]  # likewise


async def prepare(place: Path) -> tuple[str, dict[bytes, Any], dict[bytes, Any]]:
    """A thread of two runs, and what the workspace was after each."""
    workspace = place / "w"
    workspace.mkdir()

    def first() -> None:
        for name in ("a.txt", "b.txt", "folder/c.txt"):
            (workspace / name).parent.mkdir(exist_ok=True)
            (workspace / name).write_text(name)
        (workspace / "turns").write_text("a file")

    def second() -> None:
        (workspace / "a.txt").write_text("changed")
        (workspace / "b.txt").unlink()
        shutil.rmtree(workspace / "folder")
        (workspace / "turns").unlink()
        (workspace / "turns").mkdir()
        (workspace / "turns" / "inner.txt").write_text("inner")
        (workspace / "new.txt").write_text("new")

    async with corral.open(settings(place / "h", workspace)) as c:
        result = await run(c, doing(first), "one")
        before = listing(workspace)
        await run(c, doing(second), "two", result.thread)
    return result.thread, before, listing(workspace)


def child(place: Path, point: int, undo: bool) -> None:
    """Rewind the thread to its first run, or undo that, and die on the way."""
    asyncio.run(_rewind(place, point, undo))


async def _rewind(place: Path, point: int, undo: bool) -> None:
    async with corral.open(settings(place / "h", place / "w")) as c:
        (thread,) = await c.records.threads()
        instrument(Killer(point))
        if undo:
            await c.undo_rewind(thread.thread)
        else:
            await c.rewind(thread.thread, 1)
