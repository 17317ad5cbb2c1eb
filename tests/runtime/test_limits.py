"""Limits stop a run, keep what it did, and a resume with higher ones goes on."""

from __future__ import annotations

import corral
from corral.runtime.config import Settings
from tests.runtime.agents import Ledger, Turn, scripted, turn


def looks(count: int) -> list[Turn]:
    return [*(turn(f"Look {i}.", look={"at": i}) for i in range(count)), turn("Seen.")]


@corral.tool(read_only=True)
def look(at: int) -> int:
    """Look at a number."""
    return at


async def test_the_step_limit_stops_at_12_and_a_resume_with_more_goes_on(
    settings: Settings,
) -> None:
    agent = scripted(looks(14), look)
    async with corral.open(settings) as c:
        stopped = await c.run("Look.", corral.RunOptions(agent=agent))
        assert (stopped.status, stopped.steps) == ("stopped", 12)
        assert "max_steps" in str(stopped.error)
        assert stopped.output == "Look 11."
        more = corral.RunOptions(agent=agent, limits=corral.RunLimits(max_steps=20))
        done = await c.resume(stopped.run, more)
        assert (done.status, done.steps, done.output) == ("completed", 15, "Seen.")
        assert (await c.replay(done.run, more)).status == "identical"


async def test_the_token_limit_counts_over_a_resume(settings: Settings) -> None:
    script = [
        {**turn("One.", look={"at": i}), "usage": {"input_tokens": 400, "output_tokens": 100}}
        for i in range(3)
    ]
    agent = scripted([*script, turn("Done.")], look)
    async with corral.open(settings) as c:
        limits = corral.RunLimits(max_tokens=1000)
        stopped = await c.run("Go.", corral.RunOptions(agent=agent, limits=limits))
        assert (stopped.status, stopped.steps) == ("stopped", 2)
        again = await c.resume(stopped.run, corral.RunOptions(agent=agent, limits=limits))
        assert (again.status, again.steps) == ("stopped", 2)


async def test_a_resume_and_a_fork_have_the_limits_that_the_run_began_with(
    settings: Settings,
) -> None:
    agent = scripted(looks(6), look, limits=corral.RunLimits(max_steps=9))
    plain = corral.RunOptions(agent=agent)
    limits = corral.RunLimits(max_steps=3, max_tokens=100_000)
    async with corral.open(settings) as c:
        stopped = await c.run("Look.", corral.RunOptions(agent=agent, limits=limits))
        assert (stopped.status, stopped.steps) == ("stopped", 3)
        again = await c.resume(stopped.run, plain)
        assert (again.status, again.steps) == ("stopped", 3)
        last = max(e.seq for e in await c.records.trace(stopped.run) if e.kind == "model")
        fork = await c.fork(stopped.run, corral.Fork(at=last), plain)
        assert (fork.status, fork.steps) == ("stopped", 3)
        # More steps are asked for, and of tokens nothing is said: their limit stays.
        tight = corral.RunOptions(agent=agent, limits=corral.RunLimits(max_tokens=1))
        spent = await c.run("Look.", tight)
        more = corral.RunOptions(agent=agent, limits=corral.RunLimits(max_steps=20))
        assert (await c.resume(spent.run, more)).status == "stopped"
        assert (await c.resume(stopped.run, more)).status == "completed"


async def test_polling_that_makes_progress_is_not_stopped(settings: Settings) -> None:
    ledger = Ledger()

    @corral.tool(read_only=True)
    def poll() -> int:
        """Something that changes each time."""
        ledger.paid.append(1)
        return sum(ledger.paid)

    agent = scripted([*(turn("Poll.", poll={}) for _ in range(8)), turn("Done.")], poll)
    async with corral.open(settings) as c:
        assert (await c.run("Poll.", corral.RunOptions(agent=agent))).status == "completed"
