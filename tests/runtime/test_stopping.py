"""Ctrl-C at any point: the run is stopped, its thread is free, and it goes on where it was."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.messages import BaseMessage, ToolMessage
from sqlalchemy import select

import corral
from corral.runtime.config import Settings
from corral.runtime.events import Event, RunFinished, TextDelta, ToolStarted
from corral.runtime.models.contract import Chunk, ModelRequest, TextChunk
from corral.runtime.tables import threads
from tests.runtime.agents import Ledger, Turn, scripted, turn

ALLOW = {"rules": [{"tool": "functions__*", "action": "allow"}]}
SCRIPT = [
    {
        "text": "Two at once.",
        "tool_calls": [
            {"name": "functions__pay", "args": {"amount": 5}},
            {"name": "functions__balance", "args": {}},
        ],
    },
    turn("One more.", balance={}),
    turn("Done."),
]


@pytest.fixture
def allowing(settings: Settings) -> Settings:
    """Settings that let every function through."""
    return corral.load_settings({"home": settings.home, "workspace": settings.workspace, **ALLOW})


async def only_lease(c: corral.Corral) -> str | None:
    leases = await c.records.database.read(
        lambda connection: connection.execute(select(threads.c.lease)).scalars().all()
    )
    (lease,) = leases
    return None if lease is None else str(lease)


def tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def approve_all(_approval: corral.Approval) -> corral.Approved:
    return corral.Approved()


async def take(events: AsyncIterator[Event], count: int) -> int:
    """The first ``count`` events, or all there are; how many."""
    taken = 0
    while taken < count and await anext(events, None) is not None:
        taken += 1
    return taken


@pytest.mark.slow
@pytest.mark.parametrize("count", range(1, 14))
async def test_closing_the_stream_after_any_event_stops_the_run_and_frees_its_thread(
    allowing: Settings, count: int
) -> None:
    ledger = Ledger()
    agent = scripted(SCRIPT, *ledger.tools())
    options = corral.RunOptions(agent=agent, approver=approve_all)
    async with corral.open(allowing) as c:
        before = tasks()
        events = c.stream("Pay.", options)
        async with contextlib.aclosing(events):
            assert await take(events, count) == count
        assert tasks() == before
        assert await only_lease(c) is None
        (run,) = await c.records.runs()
        assert run.status == ("stopped" if run.finished_at and run.error else "completed")
        assert run.status in ("stopped", "completed")
        assert (await c.replay(run.run)).status == "identical"
        if run.status == "stopped":
            done = await c.resume(run.run, options)
            assert (done.status, done.output) == ("completed", "Done.")
        report = await c.replay(run.run)
        assert report.status == "identical", report.divergence
        # Closed in the middle of a call: it was asked about and may have been made again.
        assert ledger.paid in ([5], [5, 5])


@pytest.mark.slow
@pytest.mark.parametrize("count", range(1, 12))
async def test_another_prompt_after_a_stop_sends_a_well_formed_history_and_replays(
    allowing: Settings, count: int
) -> None:
    ledger = Ledger()
    async with corral.open(allowing) as c:
        options = corral.RunOptions(agent=scripted(SCRIPT, *ledger.tools()))
        async with contextlib.aclosing(c.stream("Pay.", options)) as events:
            await take(events, count)
        (stopped,) = await c.records.runs()
        model = Listening([turn("Look.", balance={}), turn("Hello.")])
        other = corral.Agent(functions=ledger.tools(), servers=(), chat_model=model, facts=0)
        again = corral.RunOptions(agent=other, thread=stopped.thread)
        second = await c.run("Hello?", again)
        third = await c.run("And again?", again)
        assert (second.status, second.output) == ("completed", "Hello.")
        assert (third.status, third.output) == ("completed", "Hello.")
        for run in (stopped.run, second.run, third.run):
            report = await c.replay(run)
            assert report.status == "identical", report.divergence
        assert len(model.heard) == 4
        for prompt in model.heard:
            check_calls_are_answered(prompt)


class Listening(corral.ScriptedModel):
    """A scripted model that keeps what it was sent."""

    def __init__(self, turns: list[Turn]) -> None:
        super().__init__(turns)
        self.heard: list[list[BaseMessage]] = []

    def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        self.heard.append(list(request.messages))
        return super().stream(request)


def check_calls_are_answered(prompt: list[BaseMessage]) -> None:
    open_calls: list[str | None] = []
    for message in prompt:
        if isinstance(message, ToolMessage):
            assert message.tool_call_id in open_calls
            open_calls.remove(message.tool_call_id)
        else:
            assert open_calls == []
            open_calls = [call["id"] for call in getattr(message, "tool_calls", ())]
    assert open_calls == []


class Endless:
    """A model that never ends its answer."""

    name = "endless"
    context_window = 8000

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        try:
            while True:
                yield TextChunk("and ")
                await asyncio.sleep(0)
        finally:
            self.closed.set()

    def check_complete(self, turns: int) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def test_a_model_that_never_ends_is_stopped_by_cancelling_the_caller(
    settings: Settings,
) -> None:
    model = Endless()
    agent = corral.Agent(servers=(), chat_model=model, facts=0)
    async with corral.open(settings) as c:
        heard = asyncio.Event()

        async def listen() -> None:
            async for event in c.stream("Talk.", corral.RunOptions(agent=agent)):
                if isinstance(event, TextDelta):
                    heard.set()

        listening = asyncio.create_task(listen())
        await asyncio.wait_for(heard.wait(), 10)
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        await asyncio.wait_for(model.closed.wait(), 10)
        (run,) = await c.records.runs()
        assert (run.status, run.error) == ("stopped", "stopped by the user")
        assert await only_lease(c) is None
        answering = corral.RunOptions(agent=scripted([turn("Enough.")]))
        done = await c.resume(run.run, answering)
        # The model of a run is part of what it asked for.
        assert done.status == "failed"


async def test_a_call_that_was_cut_off_by_a_stop_is_in_doubt_at_the_resume(
    allowing: Settings,
) -> None:
    begun: list[int] = []
    open_gate = asyncio.Event()

    async def pay(amount: int) -> str:
        """Pay."""
        begun.append(amount)
        await open_gate.wait()
        return f"paid {amount}"

    agent = scripted([turn("Paying.", pay={"amount": 5}), turn("Paid.")], pay)
    options = corral.RunOptions(agent=agent)
    async with corral.open(allowing) as c:
        async with contextlib.aclosing(c.stream("Pay.", options)) as events:
            async for event in events:
                if isinstance(event, ToolStarted):
                    break
        (run,) = await c.records.runs()
        assert run.status == "stopped"
        open_gate.set()
        paused = await c.resume(run.run, options)
        assert [a.kind for a in paused.approvals] == ["in_doubt"]
        await c.deny(paused.approvals[0].id, "I have checked: it was made")
        done = await c.resume(run.run, options)
        assert (done.status, done.output) == ("completed", "Paid.")
        assert len(begun) <= 1
        assert (await c.replay(run.run)).status == "identical"


async def test_leaving_corral_ends_what_still_runs(allowing: Settings) -> None:
    model = Endless()
    options = corral.RunOptions(agent=corral.Agent(servers=(), chat_model=model, facts=0))
    async with corral.open(allowing) as c:
        events = c.stream("Talk.", options)
        await take(events, 3)
    await asyncio.wait_for(model.closed.wait(), 10)
    assert not tasks()
    await asyncio.wait_for(events.aclose(), 10)
    async with corral.open(allowing) as c:
        (run,) = await c.records.runs()
        assert run.status == "stopped"
        assert await only_lease(c) is None


async def test_an_impatient_second_ctrl_c_loses_nothing(allowing: Settings) -> None:
    model = Endless()
    options = corral.RunOptions(agent=corral.Agent(servers=(), chat_model=model, facts=0))
    async with corral.open(allowing) as c:
        heard = asyncio.Event()

        async def listen() -> None:
            async for _event in c.stream("Talk.", options):
                heard.set()

        listening = asyncio.create_task(listen())
        await asyncio.wait_for(heard.wait(), 10)
        for _ in range(3):
            listening.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await listening
    async with corral.open(allowing) as c:
        (run,) = await c.records.runs()
        assert run.status == "stopped"
        assert await only_lease(c) is None


@pytest.mark.slow
@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_cancelling_at_any_turn_of_the_loop_leaves_the_database_working(
    allowing: Settings, turns: int
) -> None:
    """The caller is cancelled while it waits for a write, too."""
    ledger = Ledger()
    options = corral.RunOptions(agent=scripted(SCRIPT, *ledger.tools()), approver=approve_all)
    async with corral.open(allowing) as c:
        running = asyncio.create_task(c.run("Pay.", options))
        for _ in range(turns):
            await asyncio.sleep(0.001)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        for run in await asyncio.wait_for(c.records.runs(), 10):
            assert run.status in ("stopped", "completed")
            again = dataclasses.replace(options, thread=run.thread)
            assert (await asyncio.wait_for(c.run("Pay.", again), 10)).status == "completed"


async def test_the_last_event_is_the_result_and_nothing_follows(settings: Settings) -> None:
    async with corral.open(settings) as c:
        options = corral.RunOptions(agent=scripted([turn("Hi.")]))
        events = [event async for event in c.stream("Hi.", options)]
        assert isinstance(events[-1], RunFinished)
        assert not tasks()
