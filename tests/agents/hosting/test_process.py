"""The run host as a process: started by who needs it, killed, replaced, and taken leave of.

Such a process imports everything, which takes seconds: each test tries several things.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

import corral
from corral.agents.hosting import place as places
from corral.agents.hosting.contract import Order
from corral.agents.hosting.place import Place, find_place
from corral.agents.hosting.remote import HostedRuns
from corral.errors import RunError
from corral.runtime.approvals.replies import Given
from tests.agents.hosting.house import ME, STAND, House, ended, runs_code, says, until_begun
from tests.sandbox.inside import wait_until

SECRET = "correct-horse-battery-94"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("CORRAL_POLICY", "workspace")
    monkeypatch.setenv("PAY_TOKEN", SECRET)
    return House(tmp_path)


@asynccontextmanager
async def at(house: House) -> AsyncIterator[Place]:
    """The place of the house's host, which has gone in the end."""
    place = find_place(house.root / "home", house.workspace, house.config)
    try:
        yield place
    finally:
        while (pid := await pid_of(place)) is not None:
            os.kill(pid, signal.SIGTERM)
            await asyncio.to_thread(wait_until, partial(is_gone, pid), "its end", 60)


async def pid_of(place: Place) -> int | None:
    """The process that serves at a place now."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(place.socket))
    except OSError:
        return None
    writer.write(json.dumps({"corral": "0", "protocol": 1, "as": "runs"}).encode() + b"\n")
    answer = await reader.readline()
    writer.close()
    return int(json.loads(answer)["pid"]) if answer else None


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
async def test_killed_while_it_is_waited_for_another_goes_on(house: House) -> None:
    house.agent("worker", runs_code(STAND, f"The secret is not {SECRET}."))
    async with at(house) as place, HostedRuns.open(place) as runs:
        started = await runs.start(ME, Order("worker", f"Do it with {SECRET}."))
        await until_begun(house)
        waiting = asyncio.create_task(ended(runs, started.run))
        first = await pid_of(place)
        assert first is not None
        command = Path(f"/proc/{first}/cmdline").read_text()
        assert "corral.mcp_servers.host" in command
        assert SECRET not in command
        house.let_go_on()
        os.kill(first, signal.SIGKILL)
        report = await waiting
        (question,) = report.approvals
        assert question.kind == "in_doubt"
        assert await pid_of(place) not in (None, first)
        await runs.answer(ME, question.id, Given("done"), "elicitation:me")
        done = await ended(runs, started.run)
        assert (done.status, house.begun) == ("completed", 1)
        assert SECRET not in done.answer + place.log.read_text()
        assert place.log.stat().st_mode & 0o077 == 0


@pytest.mark.slow
async def test_of_two_that_start_one_together_both_get_the_same(house: House) -> None:
    house.agent("worker", says("Done."), servers=[])
    async with at(house) as place:
        role = {"as": "runs"}
        both = await asyncio.gather(
            *(asyncio.to_thread(places.connect, place, role) for _ in range(2))
        )
        pid = await pid_of(place)
        assert pid is not None
        assert os.getsid(pid) != os.getsid(0)
        for connection in both:
            connection.close()

        # What is asked to leave hands over what it works on, and the next one goes on with it.
        async with HostedRuns.open(place) as runs:
            done = await ended(runs, (await runs.start(ME, Order("worker", "Do it."))).run)
            assert done.answer == "Done."
            os.kill(pid, signal.SIGTERM)
            await asyncio.to_thread(wait_until, partial(is_gone, pid), "its end", 60)
            assert not place.socket.exists()
            assert (await runs.report(ME, done.run)).answer == "Done."


@pytest.mark.slow
async def test_what_is_wrong_with_the_settings_is_told_to_who_starts_it(house: House) -> None:
    house.agent("worker", says("Done."))
    with house.config.open("a") as file:
        file.write("nonsense = 1\n")
    async with at(house) as place:
        with pytest.raises(RunError, match=r"there is no setting .*nonsense"):
            await asyncio.to_thread(places.connect, place, {"as": "runs"})
        house.config.unlink()


@pytest.mark.slow
async def test_what_is_answered_or_cancelled_in_a_terminal_reaches_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRAL_POLICY", "ask")
    house.agent("worker", runs_code(STAND))
    async with at(house) as place, HostedRuns.open(place) as runs:
        waiting = await ended(runs, (await runs.start(ME, Order("worker", "Do it."))).run)
        said = await terminal(house, "approve", waiting.approvals[0].id)
        assert "the run host goes on with it" in said
        await until_begun(house)
        said = await terminal(house, "cancel", waiting.run)
        assert "is stopped" in said
        assert (await ended(runs, waiting.run)).status == "cancelled"
        async with corral.open(house.settings()) as c:
            assert (await c.records.run(waiting.run)).status == "stopped"


async def terminal(house: House, *args: str) -> str:
    """What a command in a terminal says."""
    options = ("--home", house.root / "home", "--workspace", house.workspace)
    command = [sys.executable, "-m", "corral.cli", *map(str, options), *args]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout + done.stderr
