"""Processes that compete: for one run, for one thread, for one database."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import corral
from corral.errors import ConflictError
from tests.runtime.agents import scripted, turn
from tests.runtime.crash_child import Place


@corral.tool(read_only=True)
def look(at: int) -> int:
    """Look at a number."""
    return at


def looking(steps: int) -> corral.Agent:
    """An agent that looks ``steps`` times and then says so."""
    turns = [turn(f"Look {n}.", look={"at": n}) for n in range(steps)]
    return scripted([*turns, turn("Seen.")], look)


def wait_for_the_others(place: Path, number: int) -> None:
    """Say that this process is ready, and begin when all are told to."""
    (place / f"ready-{number}").touch()
    while not (place / "go").exists():
        time.sleep(0.001)


def rival(place: Path, number: int, run: str | None, thread: str | None) -> None:
    """Resume ``run``, or start one on ``thread``, as soon as all rivals are there."""
    asyncio.run(_rival(place, number, run, thread))


async def _rival(place: Path, number: int, run: str | None, thread: str | None) -> None:
    said: dict[str, Any] = {}
    async with corral.open(Place(place).settings(asking=False)) as c:
        wait_for_the_others(place, number)
        limits = corral.RunLimits(max_steps=100)
        options = corral.RunOptions(agent=looking(20), thread=thread, limits=limits)
        try:
            if run is not None:
                said = (await c.resume(run, options)).to_json()
            else:
                said = (await c.run("Look.", options)).to_json()
        except ConflictError as error:
            said = {"conflict": str(error)}
    (place / f"said-{number}").write_text(json.dumps(said))


def writer(place: Path, number: int, count: int) -> None:
    """Open the database, new or not, and make ``count`` runs at once."""
    asyncio.run(_write(place, number, count))


async def _write(place: Path, number: int, count: int) -> None:
    wait_for_the_others(place, number)
    async with corral.open(Place(place).settings(asking=False)) as c:
        options = corral.RunOptions(agent=looking(4))
        results = await asyncio.gather(*(c.run(f"{number}-{n}", options) for n in range(count)))
    said = [[result.run, result.status, result.error] for result in results]
    (place / f"said-{number}").write_text(json.dumps(said))
