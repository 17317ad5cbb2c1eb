"""Forks: the past is shared and not made again, the change is applied, the rest is live."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select

import corral
from corral.errors import DivergenceError, NotFoundError, UsageError
from corral.runtime.config import Settings
from corral.runtime.tables import effects
from tests.runtime.agents import Ledger, Listening, scripted, turn

SCRIPT = [
    turn("First.", pay={"amount": 1}),
    turn("Second.", pay={"amount": 2}),
    turn("Third.", pay={"amount": 3}),
    turn("Paid."),
]


@pytest.fixture
def allowing(settings: Settings) -> Settings:
    """Settings that let every function through."""
    rules = [{"tool": "functions__*", "action": "allow"}]
    return corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    )


async def seq_of(c: corral.Corral, run: str, **args: Any) -> int:
    """The number of the tool call that was made with these arguments."""
    for effect in await c.records.trace(run):
        if effect.kind == "tool" and effect.request["args"] == args:  # type: ignore[index,call-overload]  # a trace holds JSON
            return effect.seq
    raise AssertionError(f"no call with {args}")


async def own_entries(c: corral.Corral, run: str) -> int:
    """How many rows of the journal are the run's own."""
    query = select(func.count()).select_from(effects).where(effects.c.run_id == run)
    count: int = await c.records.database.read(lambda db: db.execute(query).scalar_one())
    return count


async def test_a_changed_result_is_gone_on_from(allowing: Settings) -> None:
    ledger = Ledger()
    options = corral.RunOptions(agent=scripted(SCRIPT, *ledger.tools()))
    async with corral.open(allowing) as c:
        run = await c.run("Pay.", options)
        at = await seq_of(c, run.run, amount=2)
        fork = await c.fork(run.run, corral.Fork(at=at, result="out of money"), options)
        assert (fork.status, fork.output) == ("completed", "Paid."), fork.error
        assert ledger.paid == [1, 2, 3, 3]
        told = [e for e in await c.records.trace(fork.run) if e.kind == "model"][-1]
        assert "out of money" in str(await _prompt(c, fork.run))
        assert told.run == fork.run
        # Only what is new is stored: the replaced call, two model calls and a tool call.
        assert await own_entries(c, fork.run) == 4
        for each in (run, fork):
            report = await c.replay(each.run)
            assert report.status == "identical", report.divergence


async def _prompt(c: corral.Corral, run: str) -> list[Any]:
    """All messages that were sent in a run's model calls."""
    calls = [e.request for e in await c.records.trace(run) if e.kind == "model"]
    return [message for call in calls for message in call["messages"]]  # type: ignore[index,call-overload,union-attr]  # a trace holds JSON


async def test_another_model_takes_over_and_the_budget_goes_on(allowing: Settings) -> None:
    ledger = Ledger()
    options = corral.RunOptions(agent=scripted(SCRIPT, *ledger.tools()))
    other = scripted([*SCRIPT[:2], turn("I pay no more.")], *ledger.tools())
    limits = corral.RunLimits(max_steps=2)
    async with corral.open(allowing) as c:
        run = await c.run("Pay.", options)
        at = await seq_of(c, run.run, amount=2)
        change = corral.Fork(at=at + 1, agent=other)
        fork = await c.fork(run.run, change, options)
        assert (fork.output, fork.steps) == ("I pay no more.", 3)
        assert ledger.paid == [1, 2, 3]
        assert (await c.replay(fork.run)).status == "identical"
        stopped = await c.fork(run.run, change, corral.RunOptions(agent=other, limits=limits))
        assert (stopped.status, stopped.steps) == ("stopped", 2)
        view = await c.records.run(fork.run)
        assert (view.parent, view.fork_at, view.steps) == (run.run, at + 1, 3)


async def test_an_edited_prompt_is_what_the_model_sees_from_there_on(allowing: Settings) -> None:
    ledger = Ledger()
    options = corral.RunOptions(agent=scripted(SCRIPT, *ledger.tools()))
    async with corral.open(allowing) as c:
        run = await c.run("Pay in gold.", options)
        at = await seq_of(c, run.run, amount=2)
        fork = await c.fork(run.run, corral.Fork(at=at, prompt="Pay in silver."), options)
        assert ledger.paid == [1, 2, 3, 2, 3]
        own = [e for e in await c.records.trace(fork.run) if e.run == fork.run]
        assert "Pay in silver." in str([e.request for e in own])
        assert "Pay in gold." not in str([e.request for e in own])
        assert (await c.replay(fork.run)).status == "identical"


async def test_forks_of_forks_in_a_thread_with_a_past(allowing: Settings) -> None:
    ledger = Ledger()
    options = corral.RunOptions(agent=scripted(SCRIPT, *ledger.tools()))
    async with corral.open(allowing) as c:
        before = await c.run("Pay.", options)
        again = corral.RunOptions(agent=options.agent, thread=before.thread)
        run = await c.run("Pay again.", again)
        newest = run.run
        for amount in (3, 2, 1):
            at = await seq_of(c, newest, amount=amount)
            fork = await c.fork(newest, corral.Fork(at=at, result=f"no {amount}"), options)
            assert fork.status == "completed", fork.error
            newest = fork.run
        assert fork.thread not in (run.thread, before.thread)
        assert ledger.paid == [1, 2, 3, 1, 2, 3, 3, 2, 3]
        for each in await c.records.runs():
            report = await c.replay(each.run)
            assert report.status == "identical", (each, report.divergence)
        model = Listening([turn("So.")])
        agent = corral.Agent(servers=(), chat_model=model)
        went_on = await c.run("And?", corral.RunOptions(agent=agent, thread=fork.thread))
        assert went_on.output == "So."
        assert "no 1" in model.heard[0]


async def test_a_fork_inside_of_a_parallel_step_keeps_the_siblings(allowing: Settings) -> None:
    ledger = Ledger()
    calls = [{"name": "functions__pay", "args": {"amount": n}} for n in (1, 2, 3)]
    agent = scripted([{"text": "", "tool_calls": calls}, turn("Paid.")], *ledger.tools())
    options = corral.RunOptions(agent=agent)
    async with corral.open(allowing) as c:
        run = await c.run("Pay.", options)
        at = await seq_of(c, run.run, amount=2)
        fork = await c.fork(run.run, corral.Fork(at=at), options)
        assert sorted(ledger.paid) == [1, 2, 2, 3]
        assert fork.output == "Paid."
        assert (await c.replay(fork.run)).status == "identical"


async def test_a_fork_that_asks_and_is_killed_goes_on_like_any_run(settings: Settings) -> None:
    ledger = Ledger()
    options = corral.RunOptions(agent=scripted(SCRIPT, *ledger.tools()))
    async with corral.open(settings) as c:
        result = await c.run("Pay.", options)
        while result.status == "paused":
            await c.approve(result.approvals[0].id)
            result = await c.resume(result.run, options)
        at = await seq_of(c, result.run, amount=2)
        fork = await c.fork(result.run, corral.Fork(at=at), options)
        # What was allowed in the past is asked again: it is another call.
        assert (fork.status, [a.args for a in fork.approvals]) == ("paused", [{"amount": 2}])
        assert (await c.replay(fork.run)).status == "identical"
    async with corral.open(settings) as c:
        await c.deny(fork.approvals[0].id, "once is enough")
        fork = await c.resume(fork.run, options)
        await c.approve(fork.approvals[0].id)
        fork = await c.resume(fork.run, options)
        assert (fork.status, fork.output) == ("completed", "Paid.")
        assert ledger.paid == [1, 2, 3, 3]
        assert (await c.replay(fork.run)).status == "identical"


async def test_bad_places_are_named(allowing: Settings) -> None:
    ledger = Ledger()
    options = corral.RunOptions(agent=scripted(SCRIPT, *ledger.tools()))
    async with corral.open(allowing) as c:
        run = await c.run("Pay.", options)
        with pytest.raises(NotFoundError, match="no effect 99"):
            await c.fork(run.run, corral.Fork(at=99), options)
        with pytest.raises(UsageError, match="cannot be given by hand"):
            await c.fork(run.run, corral.Fork(at=1, result="x"), options)
        with pytest.raises(UsageError, match="Python functions"):
            await c.fork(run.run, corral.Fork(at=3))
        assert [r.run for r in await c.records.runs()] == [run.run]
    assert ledger.paid == [1, 2, 3]


async def test_a_past_that_changed_code_no_longer_takes_is_refused(allowing: Settings) -> None:
    from langchain_core.messages import AIMessage
    from langgraph.graph import START, MessagesState, StateGraph

    version = 1

    def build(kit: corral.Kit) -> Any:
        async def only(state: MessagesState) -> dict[str, Any]:
            value = await kit.step(f"step of version {version}", lambda: 1)
            more = await kit.step("more", lambda: 2)
            return {"messages": [AIMessage(f"{value} {more}")]}

        graph = StateGraph(MessagesState)
        graph.add_node("only", only)
        graph.add_edge(START, "only")
        return graph

    options = corral.RunOptions(agent=scripted([], graph=build))
    async with corral.open(allowing) as c:
        run = await c.run("Go.", options)
        assert (await c.fork(run.run, corral.Fork(at=3), options)).status == "completed"
        version = 2
        with pytest.raises(DivergenceError, match="cannot be replayed up to effect 3"):
            await c.fork(run.run, corral.Fork(at=3), options)
        report = await c.replay(run.run, options)
        assert report.status == "diverged"
        assert "step of version 1" in str(report.divergence)
        assert "step 1, node only" in str(report.divergence)


class Another(corral.ScriptedModel):
    """A scripted model under another name."""

    @property
    def name(self) -> str:
        return "another"


async def test_a_fork_of_a_fork_that_changed_the_model(allowing: Settings) -> None:
    ledger = Ledger()
    options = corral.RunOptions(agent=scripted(SCRIPT, *ledger.tools()))
    other = corral.Agent(functions=ledger.tools(), servers=(), facts=0, chat_model=Another(SCRIPT))
    async with corral.open(allowing) as c:
        run = await c.run("Pay.", options)
        first = await c.fork(
            run.run, corral.Fork(at=await seq_of(c, run.run, amount=2), agent=other), options
        )
        at = await seq_of(c, first.run, amount=3)
        changed = corral.RunOptions(agent=other)
        second = await c.fork(first.run, corral.Fork(at=at, result="no"), changed)
        assert (second.status, second.output) == ("completed", "Paid."), second.error
        assert ledger.paid == [1, 2, 3, 2, 3]
        for each in await c.records.runs():
            assert (await c.replay(each.run)).status == "identical"
