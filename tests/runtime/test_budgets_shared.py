"""Budgets of threads, users and days: shared by runs and processes, and not reset by anything."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Integer, insert, select

import corral
from corral.policies.budgets import Budget, Budgets
from corral.runtime.budgets.spending import Filter, spending
from corral.runtime.config import Settings
from corral.runtime.housekeeping.retention import Retention
from corral.runtime.tables import reservations
from tests.runtime.agents import scripted, turn
from tests.runtime.test_budgets import look, looks, used

DEAR = [{**turn("Seen."), **used(4000, 100)}]


def limited(settings: Settings, **budgets: Budget) -> Settings:
    return settings.model_copy(update={"budgets": Budgets(**budgets)})


def once() -> corral.RunOptions:
    return corral.RunOptions(agent=scripted(DEAR, look))


@pytest.mark.parametrize("kind", ["user", "day"])
async def test_runs_of_all_threads_share_a_budget(settings: Settings, kind: str) -> None:
    budget = Budget(tokens=6000, at_limit="answer")
    async with corral.open(limited(settings, **{kind: budget})) as c:
        assert (await c.run("Look.", once())).status == "completed"
        assert (await c.run("Look.", once())).status == "completed"
        stopped = await c.run("Look.", once())
        assert (stopped.status, stopped.steps) == ("stopped", 0)
        assert "8,000 of 6,000" in str(stopped.error)
        assert "below what was spent already" in str(stopped.error)


async def test_a_thread_has_a_budget_of_its_own(settings: Settings) -> None:
    async with corral.open(limited(settings, thread=Budget(model_calls=1))) as c:
        first = await c.run("Look.", once())
        assert (await c.run("Look.", once())).status == "completed"
        again = await c.run("Look.", replace(once(), thread=first.thread))
        assert again.status == "paused"
        question = again.approvals[0]
        assert (question.args["account"], question.args["holder"]) == ("thread", first.thread)
        await c.approve(question.id, args={**question.args, "raise_to": 3})
        assert (await c.resume(again.run, once())).status == "completed"
        # What was raised stays raised for the thread.
        third = await c.run("Look.", replace(once(), thread=first.thread))
        assert third.status == "completed"


@pytest.mark.slow
async def test_two_processes_cannot_overrun_a_day_together(settings: Settings) -> None:
    slow = [{"text": "word " * 300, "delay": 0.001}]
    both = limited(settings, day=Budget(tokens=1100, at_limit="answer"))

    async def one() -> corral.RunResult:
        async with corral.open(both) as c:
            return await c.run("Talk.", corral.RunOptions(agent=scripted(slow, look)))

    results = await asyncio.wait_for(asyncio.gather(*(one() for _ in range(5))), 100)
    spent = sum(result.usage.input_tokens + result.usage.output_tokens for result in results)
    assert 0 < spent <= 1100
    assert {result.status for result in results} == {"completed", "stopped"}


async def test_cleaning_up_resets_no_cap(settings: Settings) -> None:
    budget = Budget(tokens=6000, at_limit="answer")
    async with corral.open(limited(settings, user=budget)) as c:
        first = await c.run("Look.", once())
        await c.run("Look.", once())
        await c.records.delete(first.thread)
        await c.records.gc(Retention(older_than=timedelta(0)))
        assert await c.records.runs() == []
        stopped = await c.run("Look.", once())
        assert stopped.status == "stopped"
        assert "8,000 of 6,000" in str(stopped.error)


async def test_what_a_fork_shares_counts_once_for_the_user_and_in_its_own_run(
    settings: Settings,
) -> None:
    agent = scripted(looks(2, tokens=4000), look)
    options = corral.RunOptions(agent=agent)
    async with corral.open(limited(settings, user=Budget(tokens=17_000))) as c:
        parent = await c.run("Look.", options)
        trace = await c.records.trace(parent.run)
        last = max(view.seq for view in trace if view.kind == "model")
        fork = await c.fork(parent.run, corral.Fork(at=last), options)
        # 12,000 of the parent, 4,000 of the fork; the 8,000 that they share count once.
        assert (fork.status, fork.usage.input_tokens) == ("completed", parent.usage.input_tokens)
        tight = replace(options, budget=Budget(tokens=8000, at_limit="answer"))
        stopped = await c.fork(parent.run, corral.Fork(at=last), tight)
        assert (stopped.status, stopped.steps) == ("stopped", 2)


async def test_a_reservation_of_a_killed_run_is_dead(settings: Settings) -> None:
    async with corral.open(limited(settings, user=Budget(tokens=6000, at_limit="answer"))) as c:
        gone = await c.run("Look.", once())
        row: dict[str, Any] = {
            column.name: 10**6 if isinstance(column.type, Integer) else "2026-01-01"
            for column in reservations.c
        }
        row |= {"run_id": gone.run, "thread_id": gone.thread, "state": "open", "cost_usd": 0.0}
        await c.records.database.write(lambda c: c.execute(insert(reservations), row))
        assert (await c.run("Look.", once())).status == "completed"
        left = await c.records.database.read(lambda c: c.execute(select(reservations)).all())
        assert left == []


async def test_a_call_that_was_cut_off_is_paid_for_once(settings: Settings) -> None:
    slow = [{"text": "word " * 200, "delay": 0.05}]
    agent = scripted(slow, look)
    options = corral.RunOptions(agent=agent)
    async with corral.open(limited(settings, user=Budget(tokens=10**6))) as c:
        events = c.stream("Talk.", options)
        async for event in events:
            if event.type == "text":
                break
        await events.aclose()
        run = (await c.records.run("last")).run
        quick = corral.RunOptions(agent=scripted([turn("Hi.")], look))
        done = await c.resume(run, quick)
        assert done.status == "completed"
        (everything,) = await spending(c.records.database, None, Filter())
        assert everything.model_calls == 2
        assert everything.input_tokens == done.usage.input_tokens
        assert everything.output_tokens == done.usage.output_tokens
        await c.records.delete(done.thread)
        (after,) = await spending(c.records.database, None, Filter())
        assert after == everything


CHILD = """
import asyncio, sys
import corral
from corral.runtime.config import Settings
from tests.runtime.agents import scripted

async def main():
    async with corral.open(Settings(home=sys.argv[1], workspace=sys.argv[2])) as c:
        slow = [{"text": "word " * 10_000, "delay": 0.05}]
        async for event in c.stream("Talk.", corral.RunOptions(agent=scripted(slow))):
            if event.type == "text":
                print("talking", flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_what_a_killed_process_had_asked_is_paid_for_when_its_run_goes_on(
    settings: Settings,
) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, str(settings.home), str(settings.workspace)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    await asyncio.wait_for(child.stdout.readline(), 60)
    child.kill()
    await child.wait()
    async with corral.open(settings) as c:
        run = (await c.records.run("last")).run
        options = corral.RunOptions(agent=scripted([turn("Hi.")]), budget=Budget(tokens=10_000))
        done = await c.resume(run, options)
        (everything,) = await spending(c.records.database, None, Filter(run=run))
    assert (done.status, everything.model_calls) == ("completed", 2)
    assert everything.input_tokens > 2 * done.usage.input_tokens
