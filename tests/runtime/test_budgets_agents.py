"""Budgets of sub-agents, of time, of tools and of money."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import corral
from corral.errors import ConfigError
from corral.policies.budgets import Budget
from corral.policies.prices import Price
from corral.runtime.config import Settings
from corral.runtime.engine import PARALLEL_TASKS
from tests.runtime.agents import Turn, scripted, turn
from tests.runtime.test_budgets import look, looks, used


def asks(name: str, task: str = "Look around.") -> dict[str, Any]:
    return {"name": f"agents__{name}", "args": {"task": task}}


def team(helper: corral.Agent, turns: list[Turn], **fields: Any) -> corral.Agent:
    return corral.Agent(
        name="lead",
        chat_model=corral.ScriptedModel(turns),
        servers=(),
        facts=0,
        agents=(helper,),
        **fields,
    )


LEAD: list[Turn] = [{"text": "Go.", "tool_calls": [asks("helper")]}, {"text": "It said so."}]


async def test_a_sub_agent_that_has_used_up_its_slice_answers_with_what_it_has(
    settings: Settings,
) -> None:
    budget = Budget(tokens=1000, at_limit="answer")
    agent = team(scripted(looks(5), look, name="helper", budget=budget), LEAD)
    options = corral.RunOptions(agent=agent)
    async with corral.open(settings) as c:
        done = await c.run("Look.", options)
        assert (done.status, done.output) == ("completed", "It said so.")
        trace = await c.records.trace(done.run)
        (task,) = (view for view in trace if view.kind == "agent")
        result: Any = task.result
        assert result["text"].startswith("Look 1.\n[Ended early.")
        assert "the budget of the agent helper" in result["text"]
        assert (await c.replay(done.run, options)).status == "identical"


async def test_parallel_calls_end_a_slice_with_the_same_words(settings: Settings) -> None:
    @corral.tool(read_only=True)
    async def peek(at: int) -> int:
        """Look at a number."""
        for _ in range(50):  # until the calls beside it stand at the limit
            await asyncio.sleep(0)
        return at

    # More than are made at once: the last ones are asked for when there is a result.
    calls = [{"name": "functions__peek", "args": {"at": i}} for i in range(PARALLEL_TASKS + 2)]
    budget = Budget(tools={"functions__peek": 1}, at_limit="answer")
    turns: list[Turn] = [{"text": "Look.", "tool_calls": calls}, turn("Seen.")]
    agent = team(scripted(turns, peek, name="helper", budget=budget), LEAD)
    options = corral.RunOptions(agent=agent)
    async with corral.open(settings) as c:
        done = await c.run("Look.", options)
        trace = await c.records.trace(done.run)
        ended: list[Any] = [v.result for v in trace if v.kind == "tool" and v.status == "failed"]
        assert len(ended) > 1
        assert len({one["answer"] for one in ended}) == 1
        assert (await c.replay(done.run, options)).status == "identical"


async def test_a_sub_agent_gets_no_more_than_its_run_has_left(settings: Settings) -> None:
    agent = team(scripted(looks(5), look, name="helper", budget=Budget(tokens=10**6)), LEAD)
    budget = Budget(tokens=1500, at_limit="answer")
    async with corral.open(settings) as c:
        stopped = await c.run("Look.", corral.RunOptions(agent=agent, budget=budget))
        assert stopped.status == "stopped"
        assert "the run's budget" in str(stopped.error)
        assert stopped.usage.input_tokens + stopped.usage.output_tokens <= 1500
        assert stopped.output.startswith("Go.\n[Ended early.")


async def test_a_sub_agent_asks_for_itself(settings: Settings) -> None:
    agent = team(scripted(looks(2), look, name="helper", budget=Budget(tool_calls=1)), LEAD)
    options = corral.RunOptions(agent=agent)
    async with corral.open(settings) as c:
        paused = await c.run("Look.", options)
        (question,) = paused.approvals
        assert (question.args["account"], question.args["measure"]) == ("agent", "tool_calls")
        await c.approve(question.id)
        done = await c.resume(paused.run, options)
        assert done.status == "completed"
        assert (await c.replay(done.run, options)).status == "identical"


async def test_calls_of_a_tool_are_limited_by_pattern(settings: Settings) -> None:
    budget = Budget(tools={"functions__*": 2}, at_limit="answer")
    async with corral.open(settings) as c:
        options = corral.RunOptions(agent=scripted(looks(5), look), budget=budget)
        stopped = await c.run("Look.", options)
    assert (stopped.status, stopped.steps) == ("stopped", 3)
    assert "2 of 2 (calls of functions__*)" in str(stopped.error)


async def test_parallel_calls_cannot_pass_the_limit_of_a_tool(settings: Settings) -> None:
    seen = []

    @corral.tool(read_only=True)
    def peek(at: int) -> int:
        """Look at a number."""
        seen.append(at)
        return at

    calls = [{"name": "functions__peek", "args": {"at": i}} for i in range(6)]
    agent = scripted([{"text": "Look.", "tool_calls": calls}, turn("Seen.")], peek)
    options = corral.RunOptions(agent=agent, budget=Budget(tools={"functions__peek": 4}))
    async with corral.open(settings) as c:
        paused = await c.run("Look.", options)
        assert (paused.status, len(seen), len(paused.approvals)) == ("paused", 4, 1)
        await c.approve(paused.approvals[0].id)
        assert (await c.resume(paused.run, options)).status == "completed"
    assert sorted(seen) == list(range(6))


async def test_a_model_that_takes_too_long_is_broken_off(settings: Settings) -> None:
    agent = scripted([{"text": "word " * 10_000, "delay": 0.02}], look)
    options = corral.RunOptions(agent=agent, budget=Budget(wall_seconds=0.5, at_limit="answer"))
    async with corral.open(settings) as c:
        stopped = await asyncio.wait_for(c.run("Talk.", options), 60)
        assert stopped.status == "stopped"
        assert "wall seconds" in str(stopped.error)
        trace = await c.records.trace(stopped.run)
        failed: Any = trace[-1].result
        assert (trace[-1].status, failed["type"]) == ("failed", "OutOfTime")


async def test_time_that_is_over_can_be_raised(settings: Settings) -> None:
    agent = scripted(looks(1), look)
    async with corral.open(settings) as c:
        paused = await c.run("L.", corral.RunOptions(agent=agent, budget=Budget(wall_seconds=0)))
        (question,) = paused.approvals
        await c.approve(question.id, args={**question.args, "raise_to": 3600})
        assert (await c.resume(paused.run, corral.RunOptions(agent=agent))).status == "completed"


async def test_money_is_reserved_at_the_models_price(settings: Settings) -> None:
    price = Price(input=1000.0, output=2000.0)
    model = corral.ScriptedModel(looks(3), price=price)
    agent = corral.Agent(chat_model=model, functions=(look,), servers=(), facts=0)
    budget = Budget(usd=1.2, at_limit="answer")
    async with corral.open(settings) as c:
        stopped = await c.run("Look.", corral.RunOptions(agent=agent, budget=budget))
    assert (stopped.status, stopped.steps) == ("stopped", 2)
    assert stopped.usage.cost_usd == pytest.approx(2 * 0.42)
    assert "$0.84 of $1.20 (US dollars)" in str(stopped.error)


class Unpriced:
    """A model of somebody else's that does not say what it costs."""

    def __init__(self) -> None:
        self._inner = corral.ScriptedModel([turn("Hi.")], name="mystery")

    def __getattr__(self, name: str) -> Any:
        if name == "price":
            raise AttributeError(name)
        return getattr(self._inner, name)


async def test_money_needs_the_price_of_every_agent(settings: Settings) -> None:
    model: Any = Unpriced()
    helper = corral.Agent(name="helper", chat_model=model, servers=(), budget=Budget(usd=1))
    async with corral.open(settings) as c:
        with pytest.raises(ConfigError) as caught:
            await c.run("Look.", corral.RunOptions(agent=team(helper, LEAD)))
        assert "the price of mystery is not known" in caught.value.message
        assert '[prices."mystery"]' in caught.value.hint
        assert await c.records.runs() == []


async def test_local_models_cost_nothing_and_count_tokens(settings: Settings) -> None:
    agent = scripted([{**turn("Hi."), **used(500)}], look)
    async with corral.open(settings) as c:
        budget = Budget(usd=0.0, tokens=5000)
        done = await c.run("Hi.", corral.RunOptions(agent=agent, budget=budget))
    assert (done.status, done.usage.cost_usd, done.usage.input_tokens) == ("completed", 0.0, 480)


async def test_spending_is_told_by_agent_in_its_tree(settings: Settings) -> None:
    from corral.runtime.budgets.spending import Filter, spending

    agent = team(scripted(looks(2), look, name="helper"), LEAD)
    async with corral.open(settings) as c:
        await c.run("Look.", corral.RunOptions(agent=agent, tags=("x",)))
        found = await spending(c.records.database, "agent", Filter())
        tools = await spending(c.records.database, "tool", Filter())
        tags = await spending(c.records.database, "tag", Filter())
    assert {line.key: line.model_calls for line in found} == {"lead": 2, "lead/helper": 3}
    assert {line.key: line.tool_calls for line in tools} == {
        "agents__helper": 1,
        "functions__look": 2,
    }
    assert [line.key for line in tags] == ["x"]
