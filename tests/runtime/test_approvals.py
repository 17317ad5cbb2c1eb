"""Approvals: stored, answered once from anywhere, and the answer is what counts."""

from __future__ import annotations

import asyncio

import pytest

import corral
from corral.errors import ConflictError, NotFoundError, UsageError
from corral.runtime.config import Settings
from corral.runtime.records import open_records
from tests.runtime.agents import Ledger, Turn, scripted, turn

PAY_TWICE: list[Turn] = [
    {
        "text": "Paying.",
        "tool_calls": [
            {"name": "functions__pay", "args": {"amount": 5}},
            {"name": "functions__pay", "args": {"amount": 7}},
            {"name": "functions__balance", "args": {}},
        ],
    },
    turn("Paid."),
]


def options(ledger: Ledger, turns: list[Turn] = PAY_TWICE) -> corral.RunOptions:
    return corral.RunOptions(agent=scripted(turns, *ledger.tools()))


async def test_all_questions_of_a_turn_surface_at_once_and_nothing_runs_before_the_answers(
    settings: Settings,
) -> None:
    ledger = Ledger()
    async with corral.open(settings) as c:
        result = await c.run("Pay.", options(ledger))
        assert result.status == "paused"
        assert sorted(a.args["amount"] for a in result.approvals) == [5, 7]
        assert ledger.paid == []
        trace = {e.name: e.status for e in await c.records.trace(result.run)}
        assert trace["functions__balance"] == "finished"
        assert trace["functions__pay"] == "waiting"


async def test_answers_come_in_any_order_from_another_process_and_are_applied_once(
    settings: Settings,
) -> None:
    ledger = Ledger()
    async with corral.open(settings) as c:
        result = await c.run("Pay.", options(ledger))
    five, seven = sorted(result.approvals, key=lambda a: a.args["amount"])
    async with open_records(settings) as records:
        await records.deny(seven.id, "too much")
        with pytest.raises(ConflictError, match="denied"):
            await records.approve(seven.id)
    async with corral.open(settings) as c:
        halfway = await c.resume(result.run, options(ledger))
        assert halfway.status == "paused"
        assert [a.id for a in halfway.approvals] == [five.id]
        await c.approve(five.id)
        done = await c.resume(result.run, options(ledger))
        assert done.status == "completed"
        assert ledger.paid == [5]
        results = [e.result for e in await c.records.trace(result.run) if e.kind == "tool"]
        assert any("too much" in str(r) for r in results)
        assert (await c.replay(result.run, options(ledger))).status == "identical"


async def test_edited_arguments_are_validated_first_and_then_used(settings: Settings) -> None:
    ledger = Ledger()
    script = [turn("Paying.", pay={"amount": 1000}), turn("Paid.")]
    async with corral.open(settings) as c:
        result = await c.run("Pay.", options(ledger, script))
        question = result.approvals[0]
        with pytest.raises(UsageError, match="amount"):
            await c.approve(question.id, args={"amount": "many"})
        await c.approve(question.id, args={"amount": 10})
        assert (await c.resume(result.run, options(ledger, script))).status == "completed"
        assert ledger.paid == [10]
        assert (await c.replay(result.run, options(ledger, script))).status == "identical"


async def test_always_lets_the_same_call_through_in_this_workspace_from_then_on(
    settings: Settings,
) -> None:
    ledger = Ledger()
    script = [turn("Paying.", pay={"amount": 3}), turn("Paid.")]
    other = [turn("Paying.", pay={"amount": 4}), turn("Paid.")]
    async with corral.open(settings) as c:
        first = await c.run("Pay.", options(ledger, script))
        await c.approve(first.approvals[0].id, always=True)
        await c.resume(first.run, options(ledger, script))
        assert (await c.run("Again.", options(ledger, script))).status == "completed"
        assert (await c.run("More.", options(ledger, other))).status == "paused"
        assert ledger.paid == [3, 3]


async def test_an_approver_answers_in_process(settings: Settings) -> None:
    ledger = Ledger()

    async def approver(approval: corral.Approval) -> corral.Approved | corral.Denied:
        await asyncio.sleep(0)
        if approval.args["amount"] > 6:
            return corral.Denied("at most 6")
        return corral.Approved()

    agent = scripted(PAY_TWICE, *ledger.tools())
    async with corral.open(settings) as c:
        run = await c.run("Pay.", corral.RunOptions(agent=agent, approver=approver))
    assert run.status == "completed"
    assert ledger.paid == [5]


async def test_a_paused_thread_takes_no_other_prompt_until_it_is_answered_or_given_up(
    settings: Settings,
) -> None:
    ledger = Ledger()
    async with corral.open(settings) as c:
        paused = await c.run("Pay.", options(ledger))
        again = corral.RunOptions(
            agent=scripted([turn("Hello.")], *ledger.tools()), thread=paused.thread
        )
        with pytest.raises(ConflictError, match=paused.run):
            await c.run("Hello?", again)
        await c.records.cancel(paused.run)
        assert (await c.run("Hello?", again)).output == "Hello."
        # The calls that were never made do not dangle in what the model is sent.
        trace = await c.records.trace((await c.records.runs(limit=1))[0].run)
        sent = next(e for e in trace if e.kind == "model").request
        assert "not executed" in str(sent)
        assert ledger.paid == []
        assert await c.approvals() == []


async def test_unknown_approvals_are_named(settings: Settings) -> None:
    async with open_records(settings) as records:
        with pytest.raises(NotFoundError, match="a-nothing"):
            await records.approve("a-nothing")


async def test_a_rule_that_changed_after_the_question_does_not_contradict_the_answer(
    settings: Settings,
) -> None:
    ledger = Ledger()
    script = [turn("Paying.", pay={"amount": 3}), turn("Paid.")]
    async with corral.open(settings) as c:
        paused = await c.run("Pay.", options(ledger, script))
        await c.deny(paused.approvals[0].id, "no")
    allowing = settings.model_copy(update={"rules": (corral_rule("functions__pay", "allow"),)})
    async with corral.open(allowing) as c:
        done = await c.resume(paused.run, options(ledger, script))
    assert done.status == "completed"
    assert ledger.paid == []


def corral_rule(tool: str, action: str) -> object:
    from corral.policies.rules import Rule

    return Rule.model_validate({"tool": tool, "action": action})
