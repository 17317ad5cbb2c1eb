"""Servers that ask in the middle of a call: of a person, of a model, and for the folders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import corral
from corral.errors import UsageError
from corral.runtime.config import Settings
from corral.runtime.events import ApprovalRequested, Event, Notice, ToolFinished
from corral.runtime.views import Approval, RunResult
from tests.runtime.agents import result_of
from tests.tools.asking import ERAS, Asking, caller, given

VALUES = {"name": "Ann", "sure": True}


async def answered(events: AsyncIterator[Event], c: corral.Corral, answer: Any) -> list[Event]:
    """Follow a run, and answer what is asked while it goes on."""
    seen = []
    async for event in events:
        seen.append(event)
        if isinstance(event, ApprovalRequested) and event.approval.context.get("held"):
            await answer(c, event.approval)
    return seen


async def to_the_end(
    asking: Asking, options: corral.RunOptions, answer: Any
) -> tuple[RunResult, list[Event]]:
    """Run, answering each question as it comes, in the call or between two rounds of it."""
    async with corral.open(asking.settings) as c:
        seen = await answered(c.stream("Go.", options), c, answer)
        while (result := result_of(seen)).status == "paused":
            for approval in result.approvals:
                await answer(c, approval)
            seen += await answered(c.stream_resume(result.run, options), c, answer)
        report = await c.replay(result.run, options)
        assert report.status == "identical", report.divergence
        return result, seen


async def accept(c: corral.Corral, approval: Approval) -> None:
    await c.approve(approval.id, args=VALUES)


def told(events: list[Event]) -> str:
    """The result of the last call."""
    return [event.text for event in events if isinstance(event, ToolFinished)][-1]


@pytest.mark.parametrize("era", ERAS)
async def test_a_form_is_answered_and_replays_without_the_server(
    settings: Settings, era: str
) -> None:
    asking = Asking.of(settings, era)
    result, events = await to_the_end(asking, caller("delete"), accept)
    assert (result.status, result.output) == ("completed", "Done.")
    whole = {**VALUES, "copies": 1}
    assert given(told(events)) == {"who": {"action": "accept", "content": whole}}
    (approval,) = [e.approval for e in events if isinstance(e, ApprovalRequested)]
    assert (approval.kind, approval.tool) == ("input", "ask__delete")
    assert approval.reason == "Whose is it?"
    assert approval.context["input"]["server"] == "ask"
    assert "without its state" not in "".join(asking.noted("answered"))


@pytest.mark.parametrize("era", ERAS)
async def test_a_no_is_told_to_the_server(settings: Settings, era: str) -> None:
    async def deny(c: corral.Corral, approval: Approval) -> None:
        await c.deny(approval.id, "none of its business")

    _, events = await to_the_end(Asking.of(settings, era), caller("delete"), deny)
    assert given(told(events)) == {"who": {"action": "decline"}}


@pytest.mark.parametrize("era", ERAS)
async def test_an_address_is_shown_whole_and_takes_no_values(settings: Settings, era: str) -> None:
    async def open_it(c: corral.Corral, approval: Approval) -> None:
        assert approval.context["input"]["url"] == "https://sign.in.example/start?id=7"
        with pytest.raises(UsageError, match="no values"):
            await c.approve(approval.id, args=VALUES)
        await c.approve(approval.id)

    _, events = await to_the_end(Asking.of(settings, era), caller("connect"), open_it)
    assert given(told(events)) == {"door": {"action": "accept"}}


@pytest.mark.parametrize("tool", ["steal", "confuse"])
@pytest.mark.parametrize("era", ERAS)
async def test_an_address_that_is_none_is_never_shown(
    settings: Settings, era: str, tool: str
) -> None:
    result, events = await to_the_end(Asking.of(settings, era), caller(tool), accept)
    assert result.output == "Done."
    assert "accept" not in told(events)
    assert not [e for e in events if isinstance(e, ApprovalRequested)]


WRONG: dict[str, dict[str, Any] | None] = {
    "name": None,
    "sure": {"name": "Ann"},
    "copies": {**VALUES, "copies": 0},
    '"yes"': {**VALUES, "sure": "yes"},
    "password": {**VALUES, "password": "x"},
}


async def test_values_that_do_not_fit_answer_nothing(settings: Settings) -> None:
    async def wrongly(c: corral.Corral, approval: Approval) -> None:
        for wrong, values in WRONG.items():
            with pytest.raises(UsageError, match=wrong):
                await c.approve(approval.id, args=values)
        await c.approve(approval.id, args=VALUES)

    _, events = await to_the_end(Asking.of(settings, "modern"), caller("delete"), wrongly)
    assert given(told(events))["who"]["action"] == "accept"


async def test_both_questions_of_a_round_are_asked(settings: Settings) -> None:
    _, events = await to_the_end(Asking.of(settings, "modern"), caller("two"), accept)
    assert set(given(told(events))) == {"a", "b"}
    asked = [e.approval.reason for e in events if isinstance(e, ApprovalRequested)]
    assert asked == ["First?", "Second?"]


async def test_the_answer_comes_in_another_process_and_the_call_is_made_again_with_it(
    settings: Settings,
) -> None:
    asking = Asking.of(settings, "modern")
    async with corral.open(asking.settings) as c:
        paused = await c.run("Go.", caller("delete"))
        assert paused.status == "paused"
    async with corral.open(asking.settings) as c:
        await c.approve(paused.approvals[0].id, args=VALUES)
    async with corral.open(asking.settings) as c:
        done = await c.resume(paused.run, caller("delete"))
        assert done.output == "Done.", done.error
        calls = [e for e in await c.records.trace(done.run) if e.kind == "tool"]
    assert len(asking.noted("started")) == 2, "another process of the server has gone on"
    assert len(asking.noted("called delete")) == 2, "the first round was not made again"
    assert [call.status for call in calls] == ["finished", "finished"]


async def test_a_server_that_asks_for_ever_is_left(settings: Settings) -> None:
    result, events = await to_the_end(Asking.of(settings, "modern"), caller("endless"), accept)
    assert result.output == "Done."
    assert len([e for e in events if isinstance(e, ApprovalRequested)]) == 10
    async with corral.open(settings) as c:
        asked = [e for e in await c.records.trace(result.run) if e.kind == "approval"]
    assert len(asked) == 10


async def test_nobody_answers_in_time(settings: Settings) -> None:
    asking = Asking.of(settings, "legacy", timeout=0.5)

    async def wait(_c: corral.Corral, _approval: Approval) -> None:
        """Nobody is there."""

    result, events = await to_the_end(asking, caller("delete"), wait)
    assert result.output == "Done."
    assert "Nobody answered ask" in told(events)
    assert asking.noted("answered") == ['answered {"who": {"action": "cancel"}}']
    assert any("Nobody answered" in e.text for e in events if isinstance(e, Notice))


@pytest.mark.slow
async def test_a_person_takes_longer_than_the_call_may(settings: Settings) -> None:
    """The time in which a person reads is not the server's."""
    asking = Asking.of(settings, "legacy", timeout=1.0)

    async def late(c: corral.Corral, approval: Approval) -> None:
        await asyncio.sleep(0.9)  # with the start of the call more than its second
        await c.approve(approval.id, args=VALUES)

    result, events = await to_the_end(asking, caller("delete", "delete"), late)
    assert result.output == "Done."
    assert given(told(events))["who"]["action"] == "accept"


async def test_the_run_is_stopped_instead_of_an_answer(settings: Settings) -> None:
    async def stop(c: corral.Corral, approval: Approval) -> None:
        await c.stop(approval.id)

    async with corral.open(Asking.of(settings, "legacy").settings) as c:
        events = await answered(c.stream("Go.", caller("delete")), c, stop)
    result = result_of(events)
    assert result.status == "stopped"
    assert "ask__delete" in (result.error or "")


async def test_the_question_ends_with_its_call(settings: Settings) -> None:
    asking = Asking.of(settings, "legacy")
    async with corral.open(asking.settings) as c:
        stream = c.stream("Go.", caller("delete"))
        asked = await anext(e async for e in stream if isinstance(e, ApprovalRequested))
        await stream.aclose()
        approval = await c.records.approval(asked.approval.id)
    assert (approval.status, approval.answer_reason) == ("denied", "the call is over")
    assert asking.noted("cancelled")


@pytest.mark.parametrize("era", ERAS)
async def test_a_model_is_not_asked_unless_the_entry_says_so(settings: Settings, era: str) -> None:
    asking = Asking.of(settings, era)
    result, events = await to_the_end(asking, caller("sample"), accept)
    assert result.steps == 2
    assert "sampl" in told(events).lower()
    assert "sampling" not in "".join(asking.noted("declared"))


@pytest.mark.parametrize("era", ERAS)
async def test_a_model_is_asked_through_the_door(settings: Settings, era: str) -> None:
    turns: list[dict[str, Any]] = [
        {"text": "", "tool_calls": [{"name": "ask__sample", "args": {}}]},
        {"text": "Hello, server."},
        {"text": "Done."},
    ]
    agent = corral.Agent(servers=("ask",), chat_model=corral.ScriptedModel(turns), facts=0)
    asking = Asking.of(settings, era, sampling=True)
    result, events = await to_the_end(asking, corral.RunOptions(agent=agent), accept)
    assert result.output == "Done."
    assert "Hello, server." in told(events)
    async with corral.open(asking.settings) as c:
        models = [e for e in await c.records.trace(result.run) if e.kind == "model"]
    assert len(models) == 3
    assert [m.request["purpose"] for m in models].count("sampling") == 1  # type: ignore[index, call-overload]  # requests are JSON objects


def sampler(**budget: Any) -> corral.RunOptions:
    """An agent whose call asks the model once more, for which its budget has no room."""
    usage = {"usage": {"input_tokens": 575, "output_tokens": 20}}
    turns: list[dict[str, Any]] = [
        {"text": "", "tool_calls": [{"name": "ask__sample", "args": {}}], **usage},
        {"text": "Hello, server.", **usage},
        {"text": "Done.", **usage},
    ]
    model = corral.ScriptedModel(turns)
    agent = corral.Agent(servers=("ask",), chat_model=model, facts=0)
    return corral.RunOptions(agent=agent, budget=corral.Budget(tokens=600, **budget))


@pytest.mark.parametrize("era", ERAS)
async def test_a_model_that_the_budget_has_no_room_for_is_asked_when_a_person_says_so(
    settings: Settings, era: str
) -> None:
    async def more(c: corral.Corral, approval: Approval) -> None:
        assert approval.kind == "budget"
        await c.approve(approval.id, args={**approval.args, "raise_to": 10_000})

    asking = Asking.of(settings, era, sampling=True)
    result, events = await to_the_end(asking, sampler(), more)
    assert (result.status, result.output) == ("completed", "Done.")
    assert "Hello, server." in told(events)


@pytest.mark.parametrize("era", ERAS)
async def test_what_is_refused_to_a_server_ends_the_run_at_its_next_step(
    settings: Settings, era: str
) -> None:
    async def refuse(c: corral.Corral, approval: Approval) -> None:
        await c.deny(approval.id, "enough")

    asking = Asking.of(settings, era, sampling=True)
    for options, answer in ((sampler(), refuse), (sampler(at_limit="answer"), accept)):
        result, events = await to_the_end(asking, options, answer)
        assert (result.status, result.steps) == ("stopped", 1)
        assert "595 of 600" in told(events), "the server is told why"


@pytest.mark.parametrize("era", ERAS)
async def test_a_question_about_a_model_that_nobody_answers_in_time_waits_on(
    settings: Settings, era: str
) -> None:
    async def nobody(c: corral.Corral, approval: Approval) -> None:
        """Not here."""

    asking = Asking.of(settings, era, sampling=True, timeout=1)
    options = sampler()
    async with corral.open(asking.settings) as c:
        seen = await answered(c.stream("Go.", options), c, nobody)
        paused = result_of(seen)
        assert "Nobody answered within 1 s" in told(seen)
        assert paused.status == "paused"
        (question,) = paused.approvals
        await c.approve(question.id, args={**question.args, "raise_to": 10_000})
        turns: list[dict[str, Any]] = [
            {"text": "", "tool_calls": [{"name": "ask__sample", "args": {}}]},
            {"text": "Not sampled."},
        ]
        agent = corral.Agent(servers=("ask",), chat_model=corral.ScriptedModel(turns), facts=0)
        done = await c.resume(paused.run, corral.RunOptions(agent=agent))
    assert (done.status, done.output) == ("completed", "Not sampled.")


@pytest.mark.parametrize("era", ERAS)
async def test_who_stops_the_run_at_a_servers_question_stops_it(
    settings: Settings, era: str
) -> None:
    async def stop(c: corral.Corral, approval: Approval) -> None:
        await c.stop(approval.id, "no more")

    asking = Asking.of(settings, era, sampling=True)
    result, _ = await to_the_end(asking, sampler(), stop)
    assert result.status == "stopped"
    assert "no more" in (result.error or "")


@pytest.mark.parametrize("era", ERAS)
async def test_the_server_is_told_of_the_folders_that_its_entry_grants(
    settings: Settings, era: str
) -> None:
    (settings.workspace / "docs").mkdir()
    asking = Asking.of(settings, era, grants=["docs"])
    _, events = await to_the_end(asking, caller("folders"), accept)
    assert (settings.workspace / "docs").as_uri() in told(events)
    without = Asking.of(settings, era)
    _, events = await to_the_end(without, caller("folders"), accept)
    assert "file:" not in told(events)


async def test_an_address_to_open_before_the_call(settings: Settings) -> None:
    asking = Asking.of(settings, "legacy")

    async def open_it(c: corral.Corral, approval: Approval) -> None:
        await c.approve(approval.id)

    _, events = await to_the_end(asking, caller("sign_in"), open_it)
    assert told(events) == "signed in"
    assert len(asking.noted("called sign_in")) == 2


@pytest.mark.parametrize("era", ERAS)
async def test_an_approver_of_the_caller_s_answers_in_time(settings: Settings, era: str) -> None:
    async def approver(approval: Approval) -> corral.Approved:
        assert approval.kind == "input"
        return corral.Approved(args=VALUES)

    asking = Asking.of(settings, era)
    async with corral.open(asking.settings) as c:
        done = await c.run("Go.", caller("delete", approver=approver))
    assert done.output == "Done."
    assert '"accept"' in asking.noted("answered")[0]


async def test_a_model_that_approves_never_answers_for_a_person(settings: Settings) -> None:
    yes = {"name": "answer", "args": {"decision": "approve", "reason": "fine"}}
    model = corral.ScriptedModel([{"text": "", "tool_calls": [yes]}])
    options = caller("connect", approver=corral.ModelApprover(model))
    async with corral.open(Asking.of(settings, "modern").settings) as c:
        paused = await c.run("Go.", options)
    assert (paused.status, [a.kind for a in paused.approvals]) == ("paused", ["input"])
