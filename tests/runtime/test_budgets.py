"""Budgets of runs and agents: reserved before a call, settled after, asked about at the limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import corral
from corral.policies.budgets import Budget
from corral.runtime.config import Settings
from corral.runtime.events import Notice
from corral.runtime.models.contract import Chunk, ModelRequest, Sampling
from tests.runtime.agents import Turn, scripted, turn


def used(tokens: int, output: int = 20) -> dict[str, Any]:
    """What a turn uses, in all."""
    return {"usage": {"input_tokens": tokens - output, "output_tokens": output}}


@corral.tool(read_only=True)
def look(at: int) -> int:
    """Look at a number."""
    return at


def looks(count: int, tokens: int = 400) -> list[Turn]:
    turns = [{**turn(f"Look {i}.", look={"at": i}), **used(tokens)} for i in range(count)]
    return [*turns, {**turn("Seen."), **used(tokens)}]


async def test_at_the_limit_the_run_asks_and_a_yes_raises_it(settings: Settings) -> None:
    agent = scripted(looks(3), look)
    options = corral.RunOptions(agent=agent, budget=Budget(tokens=1000))
    async with corral.open(settings) as c:
        paused = await c.run("Look.", options)
        assert (paused.status, paused.steps) == ("paused", 2)
        (question,) = paused.approvals
        assert question.kind == "budget"
        assert question.args["account"] == "run"
        assert (question.args["measure"], question.args["limit"]) == ("tokens", 1000)
        assert question.args["used"] == 800
        assert "800 of 1,000" in question.reason
        await c.approve(question.id, args={**question.args, "raise_to": 5000})
        done = await c.resume(paused.run, corral.RunOptions(agent=agent))
        assert (done.status, done.output, done.steps) == ("completed", "Seen.", 4)
        assert (await c.replay(done.run, options)).status == "identical"


async def test_what_is_not_raised_far_enough_is_asked_again(settings: Settings) -> None:
    agent = scripted(looks(3), look)
    options = corral.RunOptions(agent=agent, budget=Budget(tokens=1000))
    async with corral.open(settings) as c:
        paused = await c.run("Look.", options)
        first = paused.approvals[0]
        await c.approve(first.id, args={**first.args, "raise_to": 1001})
        again = await c.resume(paused.run, options)
        assert again.status == "paused"
        second = again.approvals[0]
        assert (second.args["limit"], second.path[-1]) == (1001, "2")
        await c.approve(second.id)
        assert (await c.resume(paused.run, options)).status == "completed"


async def test_a_no_ends_the_run_with_what_it_has(settings: Settings) -> None:
    agent = scripted(looks(3), look)
    options = corral.RunOptions(agent=agent, budget=Budget(tokens=1000))
    async with corral.open(settings) as c:
        paused = await c.run("Look.", options)
        await c.deny(paused.approvals[0].id, "too dear")
        ended = await c.resume(paused.run, options)
        assert ended.status == "stopped"
        assert "too dear" in str(ended.error)
        assert ended.output.startswith("Look 1.\n")
        assert "functions__look (2)" in ended.output
        again = await c.resume(paused.run, options)
        assert (again.status, again.approvals) == ("stopped", ())


async def test_a_run_that_is_to_answer_ends_with_what_it_has(settings: Settings) -> None:
    agent = scripted(looks(3), look)
    budget = Budget(tokens=1000, at_limit="answer")
    async with corral.open(settings) as c:
        ended = await c.run("Look.", corral.RunOptions(agent=agent, budget=budget))
        assert (ended.status, ended.steps) == ("stopped", 2)
        assert ended.output.startswith("Look 1.\n")
        more = corral.RunOptions(agent=agent, budget=Budget(tokens=9000))
        assert (await c.resume(ended.run, more)).output == "Seen."


async def test_a_budget_given_to_a_run_holds_when_it_goes_on(settings: Settings) -> None:
    agent = scripted(looks(3), look)
    async with corral.open(settings) as c:
        budget = Budget(model_calls=2, at_limit="answer")
        ended = await c.run("Look.", corral.RunOptions(agent=agent, budget=budget))
        again = await c.resume(ended.run, corral.RunOptions(agent=agent))
    assert (ended.steps, again.status, again.steps) == (2, "stopped", 2)


class Bounded(corral.ScriptedModel):
    """A scripted model that keeps how long it was allowed to answer, and what it was told."""

    def __init__(self, turns: list[Turn]) -> None:
        super().__init__(turns)
        self.bounds: list[int | None] = []
        self.heard: list[str] = []

    def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        self.bounds.append(request.sampling.max_tokens)
        self.heard.append(str(request.messages[-1].content))
        return super().stream(request)


def bounded(turns: list[Turn], **fields: Any) -> tuple[Bounded, corral.Agent]:
    model = Bounded(turns)
    return model, corral.Agent(
        chat_model=model, functions=(look,), servers=(), facts=0, instructions="Be brief.", **fields
    )


async def test_an_answer_is_bounded_by_what_is_left(settings: Settings) -> None:
    model, agent = bounded([{**turn("word " * 2000)}])
    async with corral.open(settings) as c:
        options = corral.RunOptions(agent=agent, budget=Budget(tokens=600))
        done = await c.run("Talk.", options)
        trace = await c.records.trace(done.run)
    (bound,) = model.bounds
    assert bound is not None
    assert bound < 600
    assert done.usage.output_tokens == bound
    assert done.usage.input_tokens + done.usage.output_tokens <= 600
    (request,) = (view.request for view in trace if view.kind == "model")
    assert isinstance(request, dict)
    assert request["sampling"] == {**Sampling().to_json(), "stop": []}


async def test_without_a_budget_nothing_is_bounded(settings: Settings) -> None:
    model, agent = bounded([turn("Hi.")])
    async with corral.open(settings) as c:
        await c.run("Talk.", corral.RunOptions(agent=agent, budget=Budget(model_calls=5)))
    assert model.bounds == [None]


async def test_the_model_and_the_user_are_told_once_when_a_limit_is_near(
    settings: Settings,
) -> None:
    model, agent = bounded(looks(4, tokens=4500))
    options = corral.RunOptions(agent=agent, budget=Budget(tokens=22_000))
    async with corral.open(settings) as c:
        events = [event async for event in c.stream("Look.", options)]
        trace = await c.records.trace("last")
    notices = [event.text for event in events if isinstance(event, Notice)]
    told = [text for text in model.heard if "of the run's budget (tokens)" in text]
    assert len(told) == len(notices) == 1
    assert "82%" in told[0]
    assert "18,000 of 22,000" in notices[0]
    results: list[Any] = [view.result for view in trace if view.kind == "model"]
    assert ["told" in result for result in results] == [False, False, False, False, True]


@pytest.mark.slow
async def test_ten_parallel_branches_cannot_overrun_together(settings: Settings) -> None:
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.types import Send

    def build(kit: corral.Kit) -> Any:
        async def ask(state: Any) -> dict[str, Any]:
            return {"messages": [await kit.ask(state["messages"])]}

        graph = StateGraph(MessagesState)
        graph.add_node("ask", ask)
        graph.add_conditional_edges(START, lambda s: [Send("ask", s) for _ in range(10)], ["ask"])
        graph.add_edge("ask", END)
        return graph

    class Talker(corral.ScriptedModel):
        def _turn(self, request: ModelRequest) -> Any:
            return self._turns[0]

        def check_complete(self, turns: int) -> None:
            pass

    model = Talker([{"text": "word " * 400, "delay": 0.0001}])
    agent = corral.Agent(chat_model=model, graph=build, servers=(), facts=0)
    options = corral.RunOptions(agent=agent, budget=Budget(tokens=2500))
    async with corral.open(settings) as c:
        paused = await asyncio.wait_for(c.run("Talk.", options), 60)
        assert paused.status == "paused", paused.error
        assert len(paused.approvals) == 1  # all wait for the same answer
        assert 0 < paused.steps < 10
        spent = paused.usage.input_tokens + paused.usage.output_tokens
        assert 1000 < spent <= 2500
        question = paused.approvals[0]
        await c.approve(question.id, args={**question.args, "raise_to": 100_000})
        done = await asyncio.wait_for(c.resume(paused.run, options), 60)
        assert (done.status, done.steps) == ("completed", 10)
