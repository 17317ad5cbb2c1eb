"""Clients' runs on a PostgreSQL server: ordered once, taken up, answered and told of."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.agents.hosting.contract import Order
from corral.agents.hosting.local import LocalRuns
from corral.agents.hosting.orders import MOST_OPEN
from corral.agents.hosting.remote import HostedRuns
from corral.errors import ConflictError, NotFoundError
from corral.runtime.approvals.replies import Approved, Given
from tests import forked
from tests.agents.hosting.house import (
    ME,
    OTHER,
    STAND,
    House,
    answered,
    ended,
    runs_code,
    says,
    until_begun,
)
from tests.agents.hosting.test_process import at, pid_of
from tests.agents.hosting.test_taken_up import killed
from tests.runtime.postgres_server import Server, running
from tests.sandbox.inside import wait_until

pytestmark = pytest.mark.slow

pytest.importorskip("psycopg", reason="psycopg is not installed: run `make setup`")

RIVALS = 3


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        yield started


@pytest.fixture
def house(server: Server, tmp_path: Path) -> House:
    return House(tmp_path, database=server.new_database())


async def test_a_conversation_is_ordered_reported_listed_and_cancelled(house: House) -> None:
    house.agent("worker", runs_code(STAND), returns={"type": "object"})
    house.agent("clerk", says("nul \0 and \ue000"), servers=[])
    async with house.open() as (_, runs):
        order = Order("clerk", "Say \0.", key="one")
        first = await ended(runs, (await runs.start(ME, order)).run)
        assert (first.status, first.answer, first.prompt) == (
            "completed",
            "nul \0 and \ue000",
            "Say \0.",
        )
        assert (await runs.start(ME, order)).run == first.run
        with pytest.raises(ConflictError, match="stands for another order"):
            await runs.start(ME, Order("clerk", "Other.", key="one"))
        begun = await runs.start(ME, Order("worker", "Do it."))
        await until_begun(house)
        queued = await runs.send(ME, begun.run, "And more.")
        assert queued.status == "queued"
        assert [one.run for one in await runs.listing(ME)] == [queued.run, begun.run, first.run]
        assert [one.run for one in await runs.listing(ME, 1)] == [queued.run]
        assert await runs.listing(OTHER) == []
        for ask in (runs.report, runs.trace, runs.cancel):
            with pytest.raises(NotFoundError):
                await ask(OTHER, begun.run)
        for run in (queued.run, begun.run):
            assert (await runs.cancel(ME, run)).status == "cancelled"
        assert "model" in [effect.kind for effect in await runs.trace(ME, begun.run)]


async def test_so_many_may_be_open(house: House) -> None:
    house.agent("worker", runs_code(STAND))
    async with house.open() as (_, runs):
        first = await runs.start(ME, Order("worker", "Do it."))
        await until_begun(house)
        for number in range(MOST_OPEN - 1):
            await runs.send(ME, first.run, f"{number}")
        with pytest.raises(ConflictError, match=f"{MOST_OPEN} runs"):
            await runs.send(ME, first.run, "One more.")
        assert (await runs.start(OTHER, Order("worker", "Theirs."))).status != "failed"


def rival(house: House, number: int) -> None:
    """Order the same under one key, together with others; the handle is left in a file."""
    asyncio.run(_rival(house, number))


async def _rival(house: House, number: int) -> None:
    async with house.open() as (_, runs):
        (house.root / f"ready-{number}").touch()
        await asyncio.to_thread(wait_until, (house.root / "go").exists, "the others", 120)
        orders = [runs.start(ME, Order("worker", "Do it.", key="one")) for _ in range(3)]
        handles = {report.run for report in await asyncio.gather(*orders)}
        (house.root / f"run-{number}").write_text("\n".join(handles))
        for run in handles:
            await ended(runs, run)


async def test_processes_that_race_for_one_key_have_one_run_that_works_once(house: House) -> None:
    house.agent("worker", runs_code(STAND))
    house.let_go_on()
    rivals = [forked.start(rival, house, number) for number in range(RIVALS)]
    ready = [house.root / f"ready-{number}" for number in range(RIVALS)]
    await asyncio.to_thread(wait_until, lambda: all(one.exists() for one in ready), "them", 120)
    (house.root / "go").touch()
    for process in rivals:
        await asyncio.to_thread(process.join, 120)
        assert process.exitcode == 0
    (run,) = {(house.root / f"run-{number}").read_text() for number in range(RIVALS)}
    async with house.open() as (c, runs):
        done = await runs.report(ME, run)
        assert (done.status, done.answer) == ("completed", "All is done.")
        assert [one.run for one in await c.records.runs()] == [run]
    assert house.begun == 1


async def test_killed_in_a_call_a_human_is_asked_and_the_queue_goes_on(house: House) -> None:
    house.agent("worker", runs_code(STAND))
    run = await killed(house, "in the queue")
    queued = (house.root / "queued.txt").read_text()
    house.let_go_on()
    async with house.open() as (c, runs):
        waiting = await ended(runs, run)
        assert waiting.status == "waiting"
        assert (await answered(runs, waiting)).status == "completed"
        assert (await ended(runs, queued)).status == "completed"
        assert [one.run for one in await c.records.runs()] == [queued, run]


async def test_an_answer_of_another_process_lets_it_go_on_here(house: House) -> None:
    house.agent("worker", runs_code("print(1)", "It is one."))
    asking = House(house.root, asking=True, database=house.database)
    async with asking.open() as (_, runs), asking.open("elsewhere") as (there, other):
        waiting = await ended(runs, (await runs.start(ME, Order("worker", "Do it."))).run)
        assert waiting.status == "waiting"
        await there.approve(waiting.approvals[0].id)
        assert await gone_on(runs, waiting.run) == "It is one."
        again = await ended(runs, (await runs.start(ME, Order("worker", "Do it again."))).run)
        await other.answer(ME, again.approvals[0].id, Approved(), "elicitation:me")
        assert await gone_on(runs, again.run) == "It is one."


async def gone_on(runs: LocalRuns, run: str) -> str:
    """The answer of a run whose question was answered elsewhere."""
    while (done := await ended(runs, run)).status == "waiting":
        pass
    assert done.status == "completed"
    return done.answer


async def test_a_host_that_is_killed_is_replaced_and_its_run_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert house.database is not None
    monkeypatch.setenv("CORRAL_POLICY", "workspace")
    monkeypatch.setenv("CORRAL_DATABASE_URL", house.database)
    house.agent("worker", runs_code(STAND))
    async with at(house) as place, HostedRuns.open(place) as runs:
        started = await runs.start(ME, Order("worker", "Do it.", key="one"))
        await until_begun(house)
        waiting = asyncio.create_task(ended(runs, started.run))
        first = await pid_of(place)
        assert first is not None
        house.let_go_on()
        os.kill(first, signal.SIGKILL)
        (question,) = (await waiting).approvals
        await runs.answer(ME, question.id, Given("done"), "elicitation:me")
        done = await ended(runs, started.run)
        assert (done.status, house.begun) == ("completed", 1)
        assert (await runs.start(ME, Order("worker", "Do it.", key="one"))).run == started.run
