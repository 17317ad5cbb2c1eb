"""Models and tools that misbehave: the run ends clearly, and what can be told is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage

import corral
from corral.runtime.config import Settings
from corral.runtime.models.contract import Chunk, FinalChunk, ModelRequest, TextChunk, Usage
from tests.runtime.agents import Ledger, scripted, turn

ALLOW = [{"tool": "functions__*", "action": "allow"}]


@pytest.fixture
def allowing(settings: Settings) -> Settings:
    """Settings that let every function through."""
    return corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "rules": ALLOW}
    )


class Replies:
    """A model that gives messages just as they are, whatever the contract says."""

    name = "replies"
    context_window = 8000

    def __init__(self, messages: Sequence[AIMessage | Exception]) -> None:
        self.messages = list(messages)
        self.asked: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        self.asked.append(request)
        message = self.messages[request.turn]
        if isinstance(message, Exception):
            raise message
        yield TextChunk(str(message.text))
        yield FinalChunk(message, Usage(1, 1))

    def check_complete(self, turns: int) -> None:
        pass

    async def aclose(self) -> None:
        pass


def call(name: str, args: dict[str, Any], call_id: str) -> Any:
    return {"name": f"functions__{name}", "args": args, "id": call_id, "type": "tool_call"}


def replying(model: Replies, ledger: Ledger) -> corral.RunOptions:
    agent = corral.Agent(functions=ledger.tools(), servers=(), chat_model=model, facts=0)
    return corral.RunOptions(agent=agent)


async def test_a_model_that_breaks_fails_the_run_which_can_be_resumed(allowing: Settings) -> None:
    model = Replies([ValueError("wires crossed"), AIMessage("Mended.")])
    async with corral.open(allowing) as c:
        failed = await c.run("Hi.", replying(model, Ledger()))
        assert failed.status == "failed"
        assert "ValueError: wires crossed" in str(failed.error)
        assert "resume" in str(failed.error)
        trace = await c.records.trace(failed.run)
        assert [e.status for e in trace if e.kind == "model"] == ["failed"]
        assert (await c.replay(failed.run)).status == "identical"
        model.messages[0] = AIMessage("Mended.")
        done = await c.resume(failed.run, replying(model, Ledger()))
        assert (done.status, done.output) == ("completed", "Mended.")


async def test_a_tool_that_raises_is_a_result_for_the_model(allowing: Settings) -> None:
    def broken() -> str:
        """Break."""
        raise ZeroDivisionError("no such thing")

    agent = scripted([turn("Try.", broken={}), turn("It broke.")], broken)
    async with corral.open(allowing) as c:
        result = await c.run("Try.", corral.RunOptions(agent=agent))
        assert result.status == "completed"
        (call_entry,) = [e for e in await c.records.trace(result.run) if e.kind == "tool"]
        assert "no such thing" in str(call_entry.result)


async def test_a_provider_that_breaks_leaves_the_call_in_doubt(
    allowing: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger()
    options = corral.RunOptions(
        agent=scripted([turn("Pay.", pay={"amount": 3}), turn("Paid.")], *ledger.tools())
    )

    async def broken(*_args: object) -> None:
        raise KeyError("lost my mind")

    async with corral.open(allowing) as c:
        with monkeypatch.context() as patched:
            patched.setattr("corral.tools.functions.FunctionTools.call", broken)
            failed = await c.run("Pay.", options)
        assert failed.status == "failed"
        assert "lost my mind" in str(failed.error)
        paused = await c.resume(failed.run, options)
        assert [a.kind for a in paused.approvals] == ["in_doubt"]
        await c.approve(paused.approvals[0].id)
        assert (await c.resume(failed.run, options)).status == "completed"
        assert ledger.paid == [3]
        assert (await c.replay(failed.run)).status == "identical"


async def test_calls_with_one_id_are_told_apart(allowing: Settings) -> None:
    twice = [call("pay", {"amount": 1}, "same"), call("pay", {"amount": 2}, "same")]
    again = [call("pay", {"amount": 3}, "same")]
    model = Replies(
        [
            AIMessage("Pay two.", tool_calls=twice),
            AIMessage("And one.", tool_calls=again),
            AIMessage("Paid."),
        ]
    )
    ledger = Ledger()
    async with corral.open(allowing) as c:
        result = await c.run("Pay.", replying(model, ledger))
        assert (result.status, result.output) == ("completed", "Paid.")
        assert sorted(ledger.paid) == [1, 2, 3]
        sent = [m for m in model.asked[-1].messages if m.type == "tool"]
        assert [m.text for m in sent] == ["paid 1", "paid 2", "paid 3"]
        made = [c["id"] for m in model.asked[-1].messages for c in getattr(m, "tool_calls", [])]
        assert made == [m.tool_call_id for m in sent if isinstance(m, ToolMessage)]
        assert len(set(made)) == 3
        assert (await c.replay(result.run)).status == "identical"


async def test_fifty_calls_in_one_turn_are_all_made_and_answered_in_order(
    allowing: Settings,
) -> None:
    ledger = Ledger()
    calls = [{"name": "functions__pay", "args": {"amount": n}} for n in range(50)]
    agent = scripted([{"text": "Many.", "tool_calls": calls}, turn("Paid.")], *ledger.tools())
    async with corral.open(allowing) as c:
        result = await c.run("Pay.", corral.RunOptions(agent=agent))
        assert result.status == "completed"
        assert sorted(ledger.paid) == list(range(50))
        last = [e for e in await c.records.trace(result.run) if e.kind == "model"][-1]
        assert isinstance(last.request, dict)
        results = [m["content"] for m in last.request["messages"] if m["type"] == "tool"]
        assert results == [f"paid {n}" for n in range(50)]
        assert (await c.replay(result.run)).status == "identical"


@pytest.mark.parametrize("answer", [AIMessage(""), AIMessage([]), AIMessage("  \n")])
async def test_an_empty_answer_completes_the_run_and_its_thread_goes_on(
    allowing: Settings, answer: AIMessage
) -> None:
    async with corral.open(allowing) as c:
        empty = await c.run("Hi.", replying(Replies([answer]), Ledger()))
        assert (empty.status, empty.output.strip()) == ("completed", "")
        options = corral.RunOptions(agent=scripted([turn("Hello.")]), thread=empty.thread)
        assert (await c.run("Hi?", options)).output == "Hello."


async def test_text_that_is_not_unicode_neither_breaks_the_run_nor_its_replay(
    allowing: Settings,
) -> None:
    model = Replies([AIMessage("half a \ud800 pair", tool_calls=[]), AIMessage("x")])
    async with corral.open(allowing) as c:
        result = await c.run("A \udcff byte.", replying(model, Ledger()))
        assert result.status == "completed", result.error
        assert result.output.startswith("half a ")
        assert (await c.replay(result.run)).status == "identical"


@pytest.mark.parametrize("text", ["nul \x00 inside", "\u2028\u2029 \U0001f600 é"])
async def test_odd_characters_are_kept(allowing: Settings, text: str) -> None:
    model = Replies([AIMessage(text)])
    async with corral.open(allowing) as c:
        result = await c.run(text, replying(model, Ledger()))
        assert (result.status, result.output) == ("completed", text)
        assert (await c.records.run(result.run)).prompt == text
        assert (await c.replay(result.run)).status == "identical"


async def test_a_run_with_functions_is_not_resumed_without_them(settings: Settings) -> None:
    ledger = Ledger()
    agent = scripted([turn("Pay.", pay={"amount": 3}), turn("Paid.")], *ledger.tools())
    async with corral.open(settings) as c:
        paused = await c.run("Pay.", corral.RunOptions(agent=agent))
        await c.approve(paused.approvals[0].id)
    async with corral.open(settings) as c:
        with pytest.raises(corral.errors.UsageError, match=r"Python functions \(pay, balance\)"):
            await c.resume(paused.run)
        without = corral.Agent(functions=ledger.tools(), servers=(), facts=0)
        with pytest.raises(corral.errors.UsageError, match="model object"):
            await c.resume(paused.run, corral.RunOptions(agent=without))
        assert (await c.records.run(paused.run)).status == "paused"
        done = await c.resume(paused.run, corral.RunOptions(agent=agent))
        assert (done.status, ledger.paid) == ("completed", [3])
