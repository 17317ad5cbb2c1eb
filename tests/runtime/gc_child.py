"""A process that runs, looks or collects on a database that others use at the same time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import corral
from corral.errors import CorralError, NotFoundError
from corral.runtime.config import Settings, load_settings
from tests.runtime.rivals_child import looking, wait_for_the_others

ROUNDS = 1


def settings_in(place: Path) -> Settings:
    """The settings of all of them."""
    return load_settings({"home": place / "h", "workspace": place / "w"})


def busy(place: Path, number: int) -> None:
    """Do what is number ``number``'s to do, and write down which errors it met."""
    errors: list[str] = []
    try:
        asyncio.run(_busy(place, number))
    except CorralError as error:
        errors.append(f"{number}: {error}")
    (place / f"said-{number}").write_text(json.dumps(errors))


async def _busy(place: Path, number: int) -> None:
    async with corral.open(settings_in(place)) as c:
        wait_for_the_others(place, number)
        for _ in range(ROUNDS):
            match number % 4:
                case 0 | 1:
                    await _run(c)
                case 2:
                    await _look(c)
                case _:
                    await c.records.gc(corral.Retention(keep=1))
                    await c.records.gc(dry_run=True)


async def _run(c: corral.Corral) -> None:
    """Two runs of one thread, both replayed if gc has not taken the first meanwhile."""
    first = await c.run("Look.", corral.RunOptions(agent=looking(3)))
    again = corral.RunOptions(agent=looking(3), thread=first.thread)
    second = await c.run("Look again.", again)
    assert [first.status, second.status] == ["completed", "completed"], (first, second)
    report = await c.replay(second.run, again)
    assert report.status == "identical", report.divergence


async def _look(c: corral.Corral) -> None:
    for view in await c.records.runs(limit=5):
        try:
            await c.records.trace(view.run)
        except NotFoundError:
            continue  # gc took it in between
    await c.records.threads()
    await c.approvals()
