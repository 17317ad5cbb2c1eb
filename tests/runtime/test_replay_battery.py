"""Runs of every kind, replayed: identical, and nothing is executed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from langchain_core.messages import AIMessage, ToolCall

import corral
from corral.memory.store import Source
from corral.runtime.config import Settings
from corral.runtime.events import ModelFinished
from corral.runtime.models.contract import Chunk, FinalChunk, ModelRequest, TextChunk, Usage
from tests.runtime.agents import Ledger, scripted, turn


@pytest.fixture
def allowing(settings: Settings) -> Settings:
    """Settings that let every function through."""
    rules = [{"tool": "functions__*", "action": "allow"}]
    return corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    )


async def check(c: corral.Corral) -> None:
    """All runs replay without their functions and models."""
    for run in await c.records.runs(limit=100):
        report = await c.replay(run.run)
        assert (report.status, report.executed) == ("identical", 0), report.divergence


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
async def test_parallel_calls_that_end_in_any_order(allowing: Settings, order: list[int]) -> None:
    gates = [asyncio.Event() for _ in order]
    gates[order[0]].set()

    async def work(n: int) -> str:
        """Work."""
        await gates[n].wait()
        after = order.index(n) + 1
        if after < len(order):
            asyncio.get_running_loop().call_later(0.01, gates[order[after]].set)
        return f"worked {n}"

    calls = [{"name": "functions__work", "args": {"n": n}} for n in range(3)]
    agent = scripted([{"text": "Work.", "tool_calls": calls}, turn("Done.")], work)
    async with corral.open(allowing) as c:
        result = await c.run("Work.", corral.RunOptions(agent=agent))
        assert result.status == "completed"
        last = [e for e in await c.records.trace(result.run) if e.kind == "model"][-1]
        assert isinstance(last.request, dict)
        told = [m["content"] for m in last.request["messages"] if m["type"] == "tool"]
        assert told == ["worked 0", "worked 1", "worked 2"]
        await check(c)


@corral.tool(read_only=True)
def look(at: int) -> str:
    """Look at a number."""
    return f"seen {at} " + f"detail{at} " * 60


class Parrot:
    """A model with a small window that always says the same, or makes the calls it is given."""

    name = "parrot"
    context_window = 1200

    def __init__(self, text: str, calls: int = 0) -> None:
        self.text = text
        self.calls = calls

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        yield TextChunk(self.text)
        made = sum(len(getattr(m, "tool_calls", ())) for m in request.messages)
        calls: list[ToolCall] = []
        if request.tools and request.turn < self.calls:
            args = {"at": request.turn}
            call_id = f"c{request.turn}-{made}"
            calls = [ToolCall(name="functions__look", args=args, id=call_id)]
        yield FinalChunk(AIMessage(self.text, tool_calls=calls), Usage(3, 4))

    def check_complete(self, turns: int) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def summaries(c: corral.Corral, run: str) -> int:
    entries = await c.records.trace(run)
    return sum(
        isinstance(e.request, dict) and e.request.get("purpose") == "summary" for e in entries
    )


async def test_a_thread_that_is_summarised_over_several_runs(allowing: Settings) -> None:
    found = 0
    async with corral.open(allowing) as c:
        thread: str | None = None
        for n in range(12):
            text = f"Answer {n}: " + f"word{n} " * 150
            # Whatever is asked first, a summary or the answer, gets this text.
            model = Parrot(text)
            agent = corral.Agent(servers=(), chat_model=model, facts=0)
            result = await c.run(
                f"Question {n} " + "please " * 40, corral.RunOptions(agent=agent, thread=thread)
            )
            assert result.status == "completed", result.error
            thread = result.thread
            found += await summaries(c, result.run)
        assert found > 2
        await check(c)


@pytest.mark.parametrize("stop_after", range(1, 15, 2))
async def test_a_run_that_is_summarised_inside_stopped_anywhere_and_resumed(
    allowing: Settings, stop_after: int
) -> None:
    model = Parrot("Thinking aloud: " + "word " * 60, calls=16)
    agent = corral.Agent(functions=(look,), servers=(), chat_model=model, facts=0)
    options = corral.RunOptions(agent=agent, limits=corral.RunLimits(max_steps=60))
    async with corral.open(allowing) as c:
        answers = 0
        async with contextlib.aclosing(c.stream("Go.", options)) as events:
            async for event in events:
                answers += isinstance(event, ModelFinished)
                if answers == stop_after:
                    break
        (run,) = await c.records.runs()
        await check(c)
        done = await c.resume(run.run, options)
        assert done.status in ("completed", "paused"), done.error
        while done.status == "paused":
            await c.approve(done.approvals[0].id)
            done = await c.resume(run.run, options)
        assert done.status == "completed", done.error
        assert await summaries(c, run.run) > 1
        await check(c)


async def test_facts_that_were_recalled_and_are_forgotten_since(allowing: Settings) -> None:
    source = Source("assistant", "t", "r")
    async with corral.open(allowing) as c:
        kept = await c.memory.remember("The user's cat is called Miau.", source, "key")
        agent = scripted([turn("Miau.")], facts=5)
        result = await c.run("What is the cat called?", corral.RunOptions(agent=agent))
        first = next(e for e in await c.records.trace(result.run) if e.kind == "model")
        assert "Miau" in str(first.request)
        await c.memory.forget(kept.id)
        await check(c)


async def test_approvals_of_every_kind_in_one_run(settings: Settings) -> None:
    ledger = Ledger()
    calls = [{"name": "functions__pay", "args": {"amount": n}} for n in (1, 2, 3)]
    script = [
        {"text": "Pay.", "tool_calls": calls},
        turn("Wrong.", pay={"amount": "much"}, nothing={}),
        turn("More.", pay={"amount": 4}),
        {"error": "the model broke"},
    ]
    options = corral.RunOptions(agent=scripted(script, *ledger.tools()))
    async with corral.open(settings) as c:
        run = await c.run("Pay.", options)
        await check(c)
        one, two, three = sorted(run.approvals, key=lambda a: a.args["amount"])
        await c.approve(one.id)
        run = await c.resume(run.run, options)
        await check(c)
        await c.deny(two.id, "no")
        await c.approve(three.id, args={"amount": 30})
        run = await c.resume(run.run, options)
        await check(c)
        assert run.status == "paused"
        await c.approve(run.approvals[0].id, always=True)
        run = await c.resume(run.run, options)
        assert run.status == "failed"
        await check(c)
        mended = corral.RunOptions(agent=scripted([*script[:3], turn("Paid.")], *ledger.tools()))
        assert (await c.resume(run.run, mended)).status == "completed"
        assert sorted(ledger.paid) == [1, 4, 30]
        await check(c)
