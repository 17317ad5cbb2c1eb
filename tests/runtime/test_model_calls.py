"""What the user sees of a model call while it is made, and what is counted of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage

import corral
from corral.errors import ModelError
from corral.policies.budgets import Budget, Budgets
from corral.policies.prices import Price
from corral.runtime.asking import Ask
from corral.runtime.budgets.spending import Filter, spending
from corral.runtime.budgets.usage import usage
from corral.runtime.config import Settings
from corral.runtime.effects import Spend
from corral.runtime.events import ModelFinished, Notice, ReasoningDelta, ToolCallDelta
from corral.runtime.export.spans import spans_of
from corral.runtime.models.contract import (
    ChoiceOutput,
    Chunk,
    FinalChunk,
    JsonOutput,
    ModelRequest,
    NamedTool,
    NoticeChunk,
    ReasoningChunk,
    Sampling,
    TextChunk,
    TokenLogprob,
    ToolCallChunk,
    Usage,
    UsageChunk,
)
from corral.runtime.sections import SamplingConfig
from tests.runtime.agents import scripted, turn
from tests.runtime.exports import exported, imported

USED = Usage(100, 20, 0.5, cached_tokens=60, cache_write_tokens=10, reasoning_tokens=5)


class Streaming(corral.ScriptedModel):
    """A model that gives these chunks; after ``None`` it says nothing more for ever."""

    def __init__(self, *chunks: Chunk | Exception | None, **fields: Any) -> None:
        super().__init__([turn("unused")], **fields)
        self.asked: list[ModelRequest] = []
        self._chunks = chunks

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """The chunks, as they were given."""
        self.asked.append(request)
        for chunk in self._chunks:
            if chunk is None:
                await asyncio.Event().wait()
            elif isinstance(chunk, Exception):
                raise chunk
            else:
                yield chunk

    def check_complete(self, turns: int) -> None:
        """Any number of turns is right."""


def final(text: str = "Hi.", **fields: Any) -> FinalChunk:
    """The end of an answer."""
    return FinalChunk(AIMessage(text), fields.pop("used", USED), **fields)


def options(model: corral.ScriptedModel, **fields: Any) -> corral.RunOptions:
    """Asks this model, with no tools."""
    agent = corral.Agent(chat_model=model, servers=(), facts=0)
    return corral.RunOptions(agent=agent, **fields)


EVERYTHING = (
    NoticeChunk("loading the model", 0.4),
    ReasoningChunk("Let me see."),
    TextChunk("Hi."),
    ToolCallChunk(0, "files__read", ""),
    ToolCallChunk(0, "", '{"path":'),
    UsageChunk(Usage(100, 5)),
    final(model="openai:small", facts={"retries": 1}, logprobs=(TokenLogprob("Hi", -0.1),)),
)


async def test_every_kind_of_chunk_is_told(settings: Settings) -> None:
    async with corral.open(settings) as c:
        events = [event async for event in c.stream("Hello.", options(Streaming(*EVERYTHING)))]
        (effect,) = [view for view in await c.records.trace("last") if view.kind == "model"]
    told = [event.to_json() for event in events]
    assert {"type": "notice", "text": "loading the model", "done": 0.4} in told
    place = {"path": effect.path, "agents": ("assistant",)}
    assert {"type": "reasoning", "text": "Let me see.", **place} in told
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    assert [(call.name, call.args) for call in calls] == [("files__read", ""), ("", '{"path":')]
    assert isinstance(effect.result, dict)
    assert effect.result["facts"] == {"retries": 1}
    assert effect.result["logprobs"] == [{"text": "Hi", "logprob": -0.1}]


async def test_what_must_be_checked_first_is_not_told_while_it_is_made(settings: Settings) -> None:
    check = corral.Check(name="polite", on="output", on_fail="block", pattern="damn")
    agent = corral.Agent(chat_model=Streaming(*EVERYTHING), servers=(), facts=0, checks=(check,))
    async with corral.open(settings) as c:
        events = [e async for e in c.stream("Hello.", corral.RunOptions(agent=agent))]
    assert not [e for e in events if isinstance(e, ReasoningDelta | ToolCallDelta)]
    assert [e for e in events if isinstance(e, Notice)]


async def test_the_figures_of_a_call_reach_everything_that_tells_of_it(settings: Settings) -> None:
    async with corral.open(settings) as c:
        events = [event async for event in c.stream("Hello.", options(Streaming(*EVERYTHING)))]
        (effect,) = [view for view in await c.records.trace("last") if view.kind == "model"]
        run = await c.records.run("last")
        (used,) = await usage(c.records.database, "model")
        (spent,) = await spending(c.records.database, "model", Filter())
    (ended,) = [event for event in events if isinstance(event, ModelFinished)]
    for one in (effect, ended, used):
        assert (one.input_tokens, one.output_tokens, one.cost_usd) == (100, 20, 0.5)
        assert (one.cached_tokens, one.cache_write_tokens, one.reasoning_tokens) == (60, 10, 5)
    assert effect.answered_by == ended.answered_by == used.key == spent.key == "openai:small"
    assert effect.first_token_ms is not None
    assert effect.generation_ms is not None
    assert effect.first_token_ms == used.first_token_ms_median == used.first_token_ms_p95
    assert (run.usage.cached_tokens, run.usage.reasoning_tokens) == (60, 5)
    assert (used.calls, used.errors, used.cut_off, used.cache_hits) == (1, 0, 0, 0)


async def test_the_figures_go_with_an_export_and_into_spans(
    settings: Settings, tmp_path: Path
) -> None:
    async with corral.open(settings) as c:
        done = await c.run("Hello.", options(Streaming(*EVERYTHING)))
        before = [effect for effect in await c.records.trace(done.run) if effect.kind == "model"]
        taken_in = await imported(c, tmp_path / "run.jsonl", await exported(c, done.run))
        after = [e for e in await c.records.trace(taken_in.run) if e.kind == "model"]
        run = await c.records.run(done.run)
    (one,), (other,) = before, after
    figures = [name for name in vars(Spend()) if name != "input_tokens"]
    assert [getattr(other, name) for name in figures] == [getattr(one, name) for name in figures]
    root, span = spans_of(run, before, content=False)
    for attributes in (root.attributes, span.attributes):
        assert attributes["gen_ai.usage.cache_read.input_tokens"] == 60
        assert attributes["gen_ai.usage.reasoning.output_tokens"] == 5
    assert span.attributes["gen_ai.usage.cache_creation.input_tokens"] == 10
    assert span.attributes["gen_ai.response.model"] == "openai:small"
    assert one.first_token_ms is not None
    first = span.attributes["gen_ai.response.time_to_first_chunk"]
    assert first == pytest.approx(one.first_token_ms / 1000)


async def test_cached_input_costs_what_the_price_table_says(settings: Settings) -> None:
    price = Price(input=10.0, output=20.0, cached=1.0, written=12.5)
    told = replace(USED, cost_usd=0.0)
    model = Streaming(final(used=told), price=price)
    async with corral.open(settings) as c:
        done = await c.run("Hello.", options(model))
    assert done.usage.cost_usd == pytest.approx((30 * 10 + 60 * 1 + 10 * 12.5 + 20 * 20) / 1e6)


async def cut_off(c: corral.Corral, asked: corral.RunOptions) -> str:
    """Leave a run when the first text of its model comes; which run it was."""
    events = c.stream("Talk.", asked)
    async for event in events:
        if event.type == "text":
            break
    await events.aclose()
    return (await c.records.run("last")).run


def shared(settings: Settings) -> Settings:
    """The user's tokens are limited, so that spending is kept for all runs together."""
    return settings.model_copy(update={"budgets": Budgets(user=Budget(tokens=10**6))})


async def test_an_answer_that_is_broken_off_counts_for_what_was_made(settings: Settings) -> None:
    price = Price(input=1.0, output=2.0)
    async with corral.open(shared(settings)) as c:
        chunks = (UsageChunk(Usage(50, 7, cached_tokens=30)), TextChunk("x" * 30), None)
        run = await cut_off(c, options(Streaming(*chunks, price=price)))
        (effect,) = [view for view in await c.records.trace(run) if view.kind == "model"]
        view = await c.records.run(run)
        (everything,) = await spending(c.records.database, None, Filter())
        (used,) = await usage(c.records.database, "day")
    assert effect.status == "cancelled"
    assert (effect.input_tokens, effect.cached_tokens) == (50, 30)
    assert effect.output_tokens == 7 + 10  # as the model counted, and estimated for what came since
    assert effect.cost_usd == pytest.approx((50 + 2 * 17) / 1e6)
    for one in (view.usage, everything, used):
        assert (one.input_tokens, one.output_tokens) == (50, 17)
    assert (used.calls, used.cut_off) == (1, 1)


async def test_a_model_that_counts_at_the_end_is_estimated_until_then(settings: Settings) -> None:
    async with corral.open(shared(settings)) as c:
        run = await cut_off(c, options(Streaming(TextChunk("x" * 30), None)))
        (effect,) = [view for view in await c.records.trace(run) if view.kind == "model"]
    assert effect.input_tokens > 10
    assert effect.output_tokens == 10


async def test_a_call_that_is_made_again_adds_to_what_it_had_used(settings: Settings) -> None:
    async with corral.open(shared(settings)) as c:
        chunks = (UsageChunk(Usage(50, 7)), TextChunk("x"), None)
        run = await cut_off(c, options(Streaming(*chunks)))
        again = options(Streaming(final(used=Usage(50, 20))))
        done = await c.resume(run, again)
        (everything,) = await spending(c.records.database, None, Filter())
        replayed = await c.replay(run, again)
    assert (done.usage.input_tokens, done.usage.output_tokens) == (100, 28)
    assert (everything.input_tokens, everything.output_tokens) == (100, 28)
    assert (everything.model_calls, done.steps) == (2, 1)
    assert replayed.status == "identical"


async def test_the_budget_knows_what_a_broken_off_answer_has_used(settings: Settings) -> None:
    async with corral.open(settings) as c:
        chunks = (UsageChunk(Usage(5000, 1000)), TextChunk("x"), None)
        tight = Budget(tokens=6010, at_limit="answer")
        run = await cut_off(c, options(Streaming(*chunks), budget=tight))
        done = await c.resume(run, options(Streaming(final())))
    assert done.status == "stopped"
    assert "tokens" in str(done.error)


async def test_time_that_is_over_counts_what_was_made_until_then(settings: Settings) -> None:
    chunks = (UsageChunk(Usage(50, 7)), TextChunk("x"), None)
    limit = Budget(active_seconds=60, wall_seconds=0.2, at_limit="answer")
    async with corral.open(settings) as c:
        done = await c.run("Talk.", options(Streaming(*chunks), budget=limit))
        (everything,) = await spending(c.records.database, None, Filter())
    assert done.status == "stopped"
    assert (done.usage.input_tokens, done.usage.output_tokens) == (50, 8)
    assert (everything.input_tokens, everything.output_tokens) == (50, 8)


@pytest.mark.parametrize(
    ("before", "counted"), [((), (0, 0)), ((UsageChunk(Usage(50, 7)),), (50, 7))]
)
async def test_a_failed_call_counts_what_it_had_used(
    settings: Settings, before: Sequence[Chunk], counted: tuple[int, int]
) -> None:
    model = Streaming(*before, ModelError("The line is cut."))
    async with corral.open(shared(settings)) as c:
        done = await c.run("Talk.", options(model))
        (used,) = await usage(c.records.database, "model")
        (everything,) = await spending(c.records.database, None, Filter())
    assert done.status == "failed"
    assert (done.usage.input_tokens, done.usage.output_tokens) == counted
    assert (everything.input_tokens, everything.output_tokens) == counted
    assert (used.calls, used.errors) == (1, 1)


async def test_removed_runs_stay_in_the_sums(settings: Settings) -> None:
    async with corral.open(settings) as c:
        done = await c.run("Hello.", options(Streaming(*EVERYTHING)))
        (before,) = await usage(c.records.database, "model")
        await c.records.delete(done.thread)
        (after,) = await usage(c.records.database, "model")
    assert after.first_token_ms_median is None
    for name in ("key", "calls", "input_tokens", "cached_tokens", "reasoning_tokens", "cost_usd"):
        assert getattr(after, name) == getattr(before, name)


async def test_a_conversation_is_an_agent_in_a_thread(settings: Settings) -> None:
    model = Streaming(final())
    async with corral.open(settings) as c:
        first = await c.run("One.", options(model))
        await c.run("Two.", options(model, thread=first.thread))
        other = await c.run("Three.", options(model))
    assert [asked.conversation for asked in model.asked] == [
        first.thread,
        first.thread,
        other.thread,
    ]


class Listening(corral.ScriptedModel):
    """A scripted model that keeps in which conversations it was asked."""

    def __init__(self, turns: Sequence[Any]) -> None:
        super().__init__(turns)
        self.conversations: list[str] = []

    def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Keep the conversation, and answer as the script says."""
        self.conversations.append(request.conversation)
        return super().stream(request)


async def test_parallel_sub_agents_have_conversations_of_their_own(settings: Settings) -> None:
    members = [Listening([turn("Found.")]) for _ in range(2)]
    team = tuple(
        corral.Agent(name=name, chat_model=model, servers=(), facts=0, description="Looks.")
        for name, model in zip(("left", "right"), members, strict=True)
    )
    calls = [{"name": f"agents__{one.name}", "args": {"task": "Look."}} for one in team]
    boss = scripted([{"tool_calls": calls}, turn("Done.")], agents=team)
    async with corral.open(settings) as c:
        done = await c.run("Look.", corral.RunOptions(agent=boss, policy="trusted"))
    assert done.status == "completed"
    told = [one for model in members for one in model.conversations]
    assert len(set(told)) == 2
    assert all(one.startswith(f"{done.thread}/") for one in told)


OLD = {
    "model": "scripted",
    "purpose": "answer",
    "tools": [],
    "tools_digest": "",
    "tool_choice": "auto",
    "sampling": {
        "temperature": None,
        "top_p": None,
        "max_tokens": None,
        "seed": None,
        "stop": (),
    },
}
"""What identified a model call before there were outputs."""


def test_what_identifies_a_call_is_what_it_was_before() -> None:
    ask = Ask("scripted", [HumanMessage("Hi.")])
    assert ask.to_json() == OLD
    assert replace(ask, shape=JsonOutput({"type": "object"})).to_json() == OLD


@pytest.mark.parametrize(
    "new",
    [
        {"output": ChoiceOutput(("a", "b"))},
        {"output": JsonOutput({"type": "object"})},
        {"parallel_tool_calls": False},
        {"reasoning": "high"},
        {"tool_choice": NamedTool("files__read")},
        {"sampling": Sampling(top_k=5)},
    ],
)
def test_what_is_new_in_a_call_identifies_it(new: dict[str, Any]) -> None:
    assert replace(Ask("scripted", [HumanMessage("Hi.")]), **new).to_json() != OLD


async def test_the_fields_of_an_agent_reach_its_model(settings: Settings) -> None:
    model = Streaming(final('{"total": 1}'))
    schema = {"type": "object", "properties": {"total": {"type": "integer"}}}
    agent = corral.Agent(
        chat_model=model,
        servers=(),
        facts=0,
        reasoning="low",
        sampling=SamplingConfig(top_k=3, stop=("END",), min_p=0.1),
        returns=schema,
    )
    async with corral.open(settings) as c:
        done = await c.run("Sum up.", corral.RunOptions(agent=agent))
    (asked,) = model.asked
    assert done.output == '{"total":1}'
    assert asked.reasoning == "low"
    assert (asked.sampling.top_k, asked.sampling.stop, asked.sampling.min_p) == (3, ("END",), 0.1)
    assert isinstance(asked.output, JsonOutput)
    assert asked.output.schema == schema


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        ('{"verdict": "PASS", "why": "It is kind."}', "completed"),
        ('{"verdict": "FAIL", "why": "It is rude."}', "stopped"),
        ("FAIL. It is rude.", "stopped"),
    ],
)
async def test_a_judge_is_held_to_a_verdict(settings: Settings, verdict: str, status: str) -> None:
    model = Judging([turn("Go away."), turn(verdict)])
    check = corral.Check(name="kind", on="output", on_fail="block", judge="It is kind.")
    agent = corral.Agent(chat_model=model, servers=(), facts=0, checks=(check,))
    async with corral.open(settings) as c:
        done = await c.run("Hello.", corral.RunOptions(agent=agent))
    assert done.status == status
    assert ("It is rude" in str(done.error)) is (status == "stopped")
    first, judge = model.outputs
    assert first is None
    assert isinstance(judge, JsonOutput)
    assert judge.name == "verdict"


class Judging(corral.ScriptedModel):
    """A scripted model that keeps what its answers were to be."""

    def __init__(self, turns: Sequence[Any]) -> None:
        super().__init__(turns)
        self.outputs: list[Any] = []

    def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Keep what is asked for, and answer as the script says."""
        self.outputs.append(request.output)
        return super().stream(request)
