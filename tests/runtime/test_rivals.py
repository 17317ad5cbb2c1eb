"""Several at once: on one run or one thread exactly one wins, on one database all do."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.errors import ConflictError
from corral.runtime.config import Settings
from tests import forked
from tests.runtime.agents import scripted, turn
from tests.runtime.crash_child import Place
from tests.runtime.rivals_child import looking, rival, writer

pytestmark = pytest.mark.slow


def compete(place: Path, target: Callable[..., None], count: int, *args: Any) -> list[Any]:
    """What ``count`` processes say that begin at the same moment."""
    started = [forked.start(target, place, n, *args) for n in range(count)]
    deadline = time.monotonic() + 60
    while not all((place / f"ready-{n}").exists() for n in range(count)):
        assert time.monotonic() < deadline, "a rival did not start"
        time.sleep(0.005)
    (place / "go").touch()
    for process in started:
        process.join(90)
        assert process.exitcode == 0
    return [json.loads((place / f"said-{n}").read_text()) for n in range(count)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "w").mkdir()
    return tmp_path


async def test_of_processes_that_resume_one_run_exactly_one_wins(place: Path) -> None:
    async with corral.open(Place(place).settings(asking=False)) as c:
        short = corral.RunOptions(agent=looking(20), limits=corral.RunLimits(max_steps=2))
        stopped = await c.run("Look.", short)
    said = await asyncio.to_thread(compete, place, rival, 3, stopped.run, None)
    winners = [one for one in said if one.get("status") == "completed"]
    conflicts = [one["conflict"] for one in said if "conflict" in one]
    assert (len(winners), len(conflicts)) == (1, 2)
    assert all("process" in text or "completed" in text for text in conflicts)
    async with corral.open(Place(place).settings(asking=False)) as c:
        assert (await c.replay(stopped.run)).status == "identical"


async def test_of_processes_that_start_on_one_thread_each_wins_or_is_told(place: Path) -> None:
    async with corral.open(Place(place).settings(asking=False)) as c:
        first = await c.run("Look.", corral.RunOptions(agent=looking(1)))
    said = await asyncio.to_thread(compete, place, rival, 3, None, first.thread)
    winners = [one["run"] for one in said if one.get("status") == "completed"]
    assert winners
    assert len(winners) + sum("conflict" in one for one in said) == 3
    async with corral.open(Place(place).settings(asking=False)) as c:
        runs = await c.records.runs(thread=first.thread)
        assert {run.run for run in runs} == {first.run, *winners}
        for run in runs:
            report = await c.replay(run.run)
            assert report.status == "identical", report.divergence


async def test_tasks_that_start_on_one_thread_queue_up_or_are_told(settings: Settings) -> None:
    """Whoever takes the lease later starts from where the thread then stands."""
    async with corral.open(settings) as c:
        first = await c.run("Look.", corral.RunOptions(agent=looking(1)))
        options = corral.RunOptions(agent=looking(1), thread=first.thread)
        outcomes = await asyncio.gather(
            *(c.run(f"{n}", options) for n in range(4)), return_exceptions=True
        )
        assert sum(isinstance(one, ConflictError) for one in outcomes) >= 1
        done = [one for one in outcomes if isinstance(one, corral.RunResult)]
        assert done
        assert len(done) + sum(isinstance(one, ConflictError) for one in outcomes) == 4
        for run in await c.records.runs():
            assert (await c.replay(run.run)).status == "identical"


async def test_a_thread_whose_run_is_held_here_is_busy_until_it_is_let_go(
    settings: Settings,
) -> None:
    go_on = asyncio.Event()

    @corral.tool(read_only=True)
    async def hold() -> str:
        """Keep the run where it is."""
        await go_on.wait()
        return "held"

    agent = scripted([turn("A moment.", hold={}), turn("Held.")], hold)
    options = corral.RunOptions(agent=agent)
    async with corral.open(settings) as c:
        events = c.stream("Look.", options)
        await anext(events)
        (run,) = await c.records.runs()
        with pytest.raises(ConflictError, match="being run"):
            await c.resume(run.run, options)
        with pytest.raises(ConflictError, match="being run"):
            await c.records.cancel(run.run)
        with pytest.raises(ConflictError, match="being run"):
            await c.run("More.", dataclasses.replace(options, thread=run.thread))
        await events.aclose()
        go_on.set()
        assert (await c.resume(run.run, options)).status == "completed"


async def test_two_processes_that_write_hard_lose_nothing_and_are_never_locked_out(
    place: Path,
) -> None:
    said = await asyncio.to_thread(compete, place, writer, 3, 25)
    runs = [one for rows in said for one in rows]
    assert [error for _, status, error in runs if status != "completed"] == []
    async with corral.open(Place(place).settings(asking=False)) as c:
        stored = await c.records.runs(limit=1000)
        assert {run.run for run in stored} == {run for run, _, _ in runs}
        assert all((run.status, run.steps) == ("completed", 5) for run in stored)
        effects = await asyncio.gather(*(c.records.trace(run.run) for run in stored))
        assert all(len(entries) == 1 + 5 + 4 for entries in effects)
        assert all(e.status == "finished" for entries in effects for e in entries)


async def test_a_run_whose_process_died_is_told_of_and_resumed_or_given_up(
    settings: Settings,
) -> None:
    from sqlalchemy import update

    from corral.runtime.tables import runs, threads

    options = corral.RunOptions(agent=looking(2), limits=corral.RunLimits(max_steps=1))
    dead = json.dumps(
        {"host": __import__("socket").gethostname(), "pid": 2**22 + 1, "started": "1", "token": "x"}
    )
    async with corral.open(settings) as c:
        first, second = await c.run("Look.", options), await c.run("Look.", options)

        def kill(connection: Any) -> None:
            connection.execute(update(runs).values(status="running", error=None))
            connection.execute(update(threads).values(lease=dead))

        await c.records.database.write(kill)
        more = corral.RunOptions(agent=scripted([turn("Hello.")]), thread=first.thread)
        with pytest.raises(ConflictError, match="was cut off") as caught:
            await c.run("Hello?", more)
        assert f"corral resume {first.run}" in caught.value.hint
        assert f"corral cancel {first.run}" in caught.value.hint
        assert (await c.records.cancel(first.run)).status == "stopped"
        assert (await c.run("Hello?", more)).output == "Hello."
        longer = corral.RunOptions(agent=looking(2), limits=corral.RunLimits(max_steps=9))
        done = await c.resume(second.run, longer)
        assert (done.status, done.output) == ("completed", "Seen.")
        for run in await c.records.runs():
            assert (await c.replay(run.run)).status == "identical"
