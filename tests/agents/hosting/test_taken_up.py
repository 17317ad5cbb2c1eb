"""Runs whose process has gone, killed or not: taken up where they stand, or given up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import update

import corral
from corral.agents.hosting.contract import ENDED, Order
from corral.agents.hosting.local import LocalRuns
from corral.agents.hosting.orders import ATTEMPTS
from corral.runtime.tables import served_runs
from tests import forked
from tests.agents.hosting.house import (
    ME,
    STAND,
    House,
    answered,
    child,
    ended,
    runs_code,
    says,
    until_begun,
)

KILLED = (-9, 255)  # 255: the fork server was interrupted before it could pass on what it was told


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def killed(house: House, moment: str) -> str:
    """Order something in a process that is killed at a moment; the handle that it had."""
    process = forked.start(child, house, moment)
    await asyncio.to_thread(process.join, 120)
    assert process.exitcode in KILLED
    return (house.root / "run.txt").read_text()


@pytest.mark.slow
async def test_killed_as_soon_as_it_has_the_handle_the_run_goes_on(house: House) -> None:
    house.agent("worker", says("Done."), servers=[])
    run = await killed(house, "started")
    async with house.open() as (_, runs):
        done = await ended(runs, run)
        assert (done.status, done.answer) == ("completed", "Done.")


async def test_killed_in_a_call_that_may_happen_once_a_human_is_asked(house: House) -> None:
    house.agent("worker", runs_code(STAND))
    run = await killed(house, "in a call")
    house.let_go_on()
    async with house.open() as (_, runs):
        waiting = await ended(runs, run)
        assert waiting.status == "waiting"
        assert "no end of it is known yet" in " ".join(waiting.happened)
        done = await answered(runs, waiting)
        assert (done.status, done.answer) == ("completed", "All is done.")
        assert house.begun == 1


async def test_killed_with_a_message_in_the_queue_both_go_on_in_their_order(house: House) -> None:
    house.agent("worker", runs_code(STAND))
    run = await killed(house, "in the queue")
    queued = (house.root / "queued.txt").read_text()
    house.let_go_on()
    async with house.open() as (c, runs):
        waiting = await ended(runs, run)
        assert (await runs.report(ME, queued)).status == "queued"
        assert (await answered(runs, waiting)).status == "completed"
        assert (await ended(runs, queued)).status == "completed"
        assert [one.run for one in await c.records.runs()] == [queued, run]


async def test_what_kills_its_process_every_time_is_given_up(house: House) -> None:
    house.agent("worker", [{"text": "word " * 300, "delay": 0.05}, *says("Done.")], servers=[])
    run = await killed(house, "in a model")
    async with house.open() as (c, runs):
        # As if so many more processes had been killed at the same place.
        await c.records.database.write(
            lambda connection: connection.execute(
                update(served_runs).values(attempts=ATTEMPTS, progress=100)
            )
        )
        failed = await ended(runs, run)
        assert failed.status == "failed"
        assert f"ended {ATTEMPTS} times without getting any further" in failed.error
        assert (await c.records.run(run)).status == "failed"


async def test_left_in_a_call_it_is_interrupted_and_goes_on_when_opened_again(
    house: House,
) -> None:
    house.agent("worker", runs_code(STAND))
    async with house.open() as (_, runs):
        started = await runs.start(ME, Order("worker", "Do it."))
        await until_begun(house)
    async with corral.open(house.settings()) as c:
        assert (await c.records.run(started.run)).status == "stopped"
    house.let_go_on()
    async with house.open() as (_, runs):
        waiting = await ended(runs, started.run)
        done = await answered(runs, waiting)
        assert (done.status, house.begun) == ("completed", 1)


async def test_the_runs_of_another_account_are_left_until_their_owner_asks(house: House) -> None:
    house.agent("worker", says("Done."), servers=[])
    async with house.open("theirs") as (_, runs):
        order = Order("worker", "Do it.")
        first = await runs.start(ME, order)
        await ended(runs, first.run)
    run = await killed(house, "started")  # of the account ""
    async with house.open("theirs") as (c, runs):
        await runs.look()
        assert not runs.is_busy
        done = await ended(runs, run)
        assert done.status == "completed"
        assert len(await c.records.runs()) == 2


async def test_a_run_that_is_looked_at_from_another_folder_waits_for_a_host_of_its_own(
    house: House,
) -> None:
    """A client has one name in all folders, and sees all of its runs."""
    house.agent("worker", runs_code(STAND))
    run = await killed(house, "in a call")
    house.let_go_on()
    elsewhere = corral.load_settings(
        {"home": house.root / "home", "workspace": house.root, "config": house.config}
    )
    async with corral.open(elsewhere) as c, LocalRuns.open(c, "theirs") as runs:
        assert (await runs.report(ME, run)).status not in ENDED
        await runs.look()
        assert not runs.is_busy
    async with house.open() as (_, runs):
        assert (await ended(runs, run)).status == "waiting"


async def test_what_a_person_goes_on_with_in_a_terminal_goes_on_here_afterwards(
    house: House,
) -> None:
    house.agent("worker", runs_code("print(1)", "It is one."))
    asking = House(house.root, asking=True)
    async with asking.open() as (_, runs):
        waiting = await ended(runs, (await runs.start(ME, Order("worker", "Do it."))).run)
    async with corral.open(asking.settings()) as terminal:
        await terminal.approve(waiting.approvals[0].id)
        result = await terminal.resume(waiting.run)
        assert result.status == "completed"
    async with asking.open() as (_, runs):
        assert (await runs.report(ME, waiting.run)).answer == "It is one."
        assert not runs.is_busy
