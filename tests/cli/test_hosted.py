"""Answering and cancelling in a terminal what a run host works on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from corral.agents.hosting.contract import Order, Report
from corral.agents.hosting.lock import Lock
from corral.agents.hosting.place import find_place
from tests.agents.hosting.house import ME, House, ended, runs_code
from tests.cli.place import Place


@pytest.fixture
def house(place: Place, tmp_path: Path) -> House:
    """Agents that ask, in the home and the workspace of the command line."""
    made = House(tmp_path, asking=True)
    made.agent("worker", runs_code("print(1)"))
    return made


def account(house: House) -> str:
    return find_place(house.root / "home", house.workspace, house.config).account


def waiting(house: House) -> Report:
    """A run of a client's that waits for a human, in a host that has ended since."""

    async def order() -> Report:
        async with house.open(account(house)) as (_, runs):
            return await ended(runs, (await runs.start(ME, Order("worker", "Do it."))).run)

    return asyncio.run(order())


@contextmanager
def a_host(house: House) -> Iterator[None]:
    """As if a host was there: it holds the lock."""
    lock = Lock(find_place(house.root / "home", house.workspace, house.config))
    assert lock.is_mine
    yield
    lock.release()


def test_who_answers_is_told_who_goes_on(place: Place, house: House) -> None:
    run = waiting(house)
    with a_host(house):
        said = place.corral("deny", run.approvals[0].id, "--reason", "not today")
        assert (said.code, said.err.splitlines()[-1]) == (0, "the run host goes on with it")
    again = waiting(house)
    said = place.corral("approve", again.approvals[0].id)
    assert said.err.splitlines()[-1] == f"go on with: corral resume {again.run}"


def test_a_run_that_no_host_executes_is_cancelled_at_once(place: Place, house: House) -> None:
    run = waiting(house)
    with a_host(house):
        said = place.corral("cancel", run.run)
    assert (said.code, said.err) == (0, f"run {run.run} is stopped\n")
    assert place.corral("cancel", run.run).code == 2
