"""Approvals through a client: only a human answers, by the way that the client really has."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

import corral
from corral.cli.question import question as page_of
from corral.mcp_servers.agents.asking import READING, Attention, question
from corral.mcp_servers.agents.following import run_of
from corral.mcp_servers.agents.service import AgentService
from corral.mcp_servers.serving.contract import Caller, Elicited, NoAnswer, Question
from corral.runtime.approvals.replies import Approved, Denied
from corral.runtime.config import Settings
from corral.runtime.views import Approval, ApprovalKind
from tests.mcp_servers.agents.clients import Client, Line, serving, text_of

PUSH = Caller("stdio:old", "old client", "1", asks="push")
ROUNDS = Caller("stdio:new", "new client", "1", asks="rounds")
TASKS = Caller("stdio:tasks", "task client", "1", asks="rounds", takes_tasks=True)
MUTE = Caller("stdio:mute", "mute client", "1")

YES = Elicited("accept", {"allow": True}, 5.0)
NO = Elicited("accept", {"allow": False, "reason": "not my tea"}, 5.0)
DECLINED = Elicited("decline", {}, 5.0)
CLOSED = Elicited("cancel", {}, 5.0)

KEEP: dict[str, Any] = {"prompt": "Keep it."}


async def kept(settings: Settings) -> list[str]:
    """What was remembered in the end."""
    async with corral.open(settings) as c:
        return [fact.text for fact in await c.memory.all()]


async def answered(service: AgentService, run: str, caller: Caller) -> dict[str, Any]:
    """The run when it has ended."""
    return await Client(service, caller).told("run_result", run=run)


async def test_a_pushed_question_shows_the_call_and_a_yes_lets_it_be_made(
    agents: Settings,
) -> None:
    line = Line(human=lambda _: YES)
    async with serving(agents) as service:
        told = await Client(service, PUSH).told("careful", line, **KEEP)
    [asked] = line.asked
    assert "memory__remember" in asked.message
    assert "Tea is at four." in asked.message
    assert told["status"] == "completed"
    assert await kept(agents) == ["Tea is at four."]
    async with corral.open(agents) as c:
        [stored] = await c.records.approvals(run=told["run"], status=None)
    assert asked.message.startswith("The agent careful wants to call")
    assert "asked by careful: Keep it." in asked.message
    on_a_terminal = [line.strip() for line in page_of(stored).plain.splitlines()]
    assert any(line.startswith("has read: ") for line in on_a_terminal)
    args = {line for line in on_a_terminal if line.startswith("fact: ")}
    assert [line for line in on_a_terminal if line not in asked.message and line not in args] == []


async def test_whoever_tells_a_human_of_a_question_is_told_who_asks_it(agents: Settings) -> None:
    async with serving(agents) as service:
        told = await Client(service, MUTE).call("careful", **KEEP)
    [waiting] = (told.structured_content or {})["approvals"]
    assert "asked by careful: Keep it." in waiting["about"]
    assert "asked by careful: Keep it." in text_of(told)


@pytest.mark.parametrize("answer", [NO, DECLINED])
async def test_a_no_is_stored_as_the_humans_with_its_reason(
    agents: Settings, answer: Elicited
) -> None:
    async with serving(agents) as service:
        told = await Client(service, PUSH).told("careful", Line(human=lambda _: answer), **KEEP)
    assert told["status"] == "completed"
    assert await kept(agents) == []
    async with corral.open(agents) as c:
        [stored] = await c.records.approvals(run=told["run"], status=None)
    assert stored.status == "denied"
    assert stored.answered_by == "elicitation:old client"
    assert ("not my tea" if answer is NO else "declined by a human") in (stored.answer_reason or "")


async def test_a_question_that_is_closed_waits_on(agents: Settings) -> None:
    async with serving(agents) as service:
        told = await Client(service, PUSH).told("careful", Line(human=lambda _: CLOSED), **KEEP)
    assert told["status"] == "waiting"
    assert "answer" not in told  # what it has said so far is none
    assert "without an answer" in told["notes"][0]
    assert f"corral approve {told['approvals'][0]['id']}" in told["next"]


@pytest.mark.parametrize("action", ["accept", "decline", "cancel"])
async def test_an_answer_that_no_human_gave_is_noticed_said_and_not_carried_out(
    agents: Settings, action: Any
) -> None:
    hasty = Elicited(action, {"allow": True} if action == "accept" else {}, READING / 2)
    line = Line(human=lambda _: hasty)
    async with serving(agents) as service:
        client = Client(service, PUSH)
        first = await client.told("careful", line, **KEEP)
        assert first["status"] == "waiting"
        assert "without asking anybody" in first["notes"][0]
        second = await client.told("run_result", line, run=first["run"])
        assert "not asked any more" in second["notes"][0]
        third = await client.call("run_result", line, run=first["run"], wait_seconds=0)
        assert "corral approve" in text_of(third)
    assert len(line.asked) == 2
    assert await kept(agents) == []


async def test_a_client_that_refuses_to_ask_leaves_it_to_the_terminal(agents: Settings) -> None:
    def refuses(_: Question) -> Elicited:
        raise NoAnswer

    async with serving(agents) as service:
        told = await Client(service, PUSH).told("careful", Line(human=refuses), **KEEP)
    assert told["status"] == "waiting"
    assert "could not ask" in told["notes"][0]


async def test_a_look_at_what_waits_for_a_terminal_lasts_until_it_is_answered_there(
    agents: Settings,
) -> None:
    async with serving(agents) as service:
        client = Client(service, MUTE)
        begun = await client.told("careful", **KEEP)
        assert begun["status"] == "waiting"
        look = client.told("run_result", run=begun["run"], wait_seconds=50)
        looking = asyncio.create_task(look)
        async with corral.open(agents) as c:
            await c.approve(begun["approvals"][0]["id"])
        assert (await looking)["status"] == "completed"


async def test_in_rounds_the_call_ends_with_the_question_and_goes_on_with_the_answer(
    agents: Settings,
) -> None:
    async with serving(agents) as service:
        client = Client(service, ROUNDS)
        asked = await client.first_round("careful", **KEEP)
        [(approval, question)] = asked.questions.items()
        assert "Tea is at four." in question.message
    # The server is another one by the time that the human has answered.
    async with serving(agents) as service:
        line = Line(answers={approval: YES}, state=asked.state)
        told = await Client(service, ROUNDS).told("careful", line, **KEEP)
    assert told["status"] == "completed"
    assert told["run"] == run_of(asked.state)
    assert await kept(agents) == ["Tea is at four."]


async def test_in_rounds_a_question_is_not_asked_twice_in_one_call(agents: Settings) -> None:
    async with serving(agents) as service:
        client = Client(service, ROUNDS)
        asked = await client.first_round("careful", **KEEP)
        [approval] = asked.questions
        line = Line(answers={approval: CLOSED}, state=asked.state)
        told = await client.told("careful", line, **KEEP)
        assert told["status"] == "waiting"
        again = await client.first_round("run_result", run=told["run"])
        assert list(again.questions) == [approval]


async def test_answers_to_what_was_not_asked_of_this_run_change_nothing(
    agents: Settings,
) -> None:
    async with serving(agents) as service:
        first = await Client(service, ROUNDS).first_round("careful", **KEEP)
        [approval] = first.questions
        other = await Client(service, ROUNDS).first_round("careful", prompt="Another.")
        line = Line(answers={approval: YES, "a_nothing": YES}, state=other.state)
        again = await Client(service, ROUNDS).first_round("run_result", run=run_of(first.state))
        assert list(again.questions) == [approval]
        stands = await Client(service, ROUNDS).told("careful", line, prompt="Another.")
        assert stands["status"] == "waiting"
    assert await kept(agents) == []


async def test_a_task_asks_through_its_state(agents: Settings) -> None:
    async with serving(agents) as service:
        client = Client(service, TASKS)
        task = await client.task("careful", **KEEP)
        state = await service.task(TASKS, task)
        while state.status != "input_required":
            state = await service.task(TASKS, task)
        [approval] = state.questions or {}
        async with corral.open(agents) as c:
            asked = await c.records.approval(approval)
        assert state.updated_at >= asked.created_at, "from then on a human can have read it"
        await service.answer_task(TASKS, task, {approval: YES})
        told = await answered(service, task, TASKS)
        state = await service.task(TASKS, task)
    assert (told["status"], state.status) == ("completed", "completed")
    assert await kept(agents) == ["Tea is at four."]


async def test_a_client_that_cannot_ask_is_told_what_the_human_types(agents: Settings) -> None:
    async with serving(agents) as service:
        client = Client(service, MUTE)
        told = await client.told("careful", **KEEP)
        assert told["status"] == "waiting"
        pending = await client.told("pending_approvals")
        [waiting] = pending["approvals"]
        assert waiting["command"] == f"corral approve {waiting['id']}"
        assert (await Client(service, PUSH).told("pending_approvals"))["approvals"] == []
        async with corral.open(agents) as terminal:
            await terminal.approve(waiting["id"])
        told = await answered(service, told["run"], MUTE)
        assert told["status"] == "completed"
        assert (await client.told("pending_approvals"))["approvals"] == []
    assert await kept(agents) == ["Tea is at four."]


@pytest.mark.parametrize("kind", ["tool", "in_doubt", "budget", "loop"])
def test_what_a_model_writes_into_a_question_is_cleaned_and_bounded(kind: ApprovalKind) -> None:
    asked = question(
        Approval(
            id="a-1",
            run="r-1",
            thread="t-1",
            kind=kind,
            tool="files__write\x1b[2J_file\nAll is well.",
            args={"path": "a.txt", "content": "\u202eevil " + "x" * 20_000},
            reason="because\x07",
            status="pending",
            created_at="",
            always={},
        )
    )
    assert "files__write_file All is well." in asked.message
    assert not set(asked.message) & set("\x1b\x07\u202e")
    assert len(asked.message) < 6_000
    assert "corral approvals show a-1" in asked.message
    assert asked.schema["required"] == ["allow"]


def test_a_change_of_a_file_cannot_pass_for_what_is_said_of_the_call() -> None:
    diff = ["--- a.txt now", "+++ a.txt after", "@@ -1 +1 @@", " has read: nothing", "-old", "+new"]
    change = {"path": "a.txt", "digest": "", "diff": diff, "cut": 0, "problem": None}
    approval = replace(
        of_a_server(),
        kind="tool",
        tool="files__write_file",
        args={"path": "a.txt", "content": "x\nhas read: nothing\n"},
        context={"file": change, "read": {"sources": ["a page"], "untrusted": True}},
    )
    lines = question(approval).message.splitlines()
    assert [line for line in lines if "has read: nothing" in line] == ["|  has read: nothing"]
    assert lines[-3:-1] == ["has read: a page", "! strangers may have written in what it has read"]


def of_a_server(**about: Any) -> Approval:
    """What a tool server asks in the middle of a call."""
    return Approval(
        id="a-1",
        run="r-1",
        thread="t-1",
        kind="input",
        tool="shop__order",
        args={},
        reason="Where to?",
        status="pending",
        created_at="",
        always={},
        context={"input": {"server": "shop", **about}},
    )


def test_the_form_of_a_tool_server_is_asked_in_its_name() -> None:
    schema = {"type": "object", "properties": {"street": {"type": "string"}}}
    approval = of_a_server(mode="form", schema=schema)
    asked = question(approval)
    assert asked.schema == schema
    assert "shop__order" in asked.message
    assert "Where to?" in asked.message
    values = Elicited("accept", {"street": "Mill Lane"}, 5.0)
    assert Attention().reply(PUSH, approval, values) == Approved(args={"street": "Mill Lane"})
    assert isinstance(Attention().reply(PUSH, approval, DECLINED), Denied)


def test_a_form_that_seems_to_ask_for_a_secret_is_marked() -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "string", "title": "Your PIN"}}}
    assert "answer looks like a secret" in question(of_a_server(mode="form", schema=schema)).message


def test_nothing_of_a_call_is_hidden_from_who_decides() -> None:
    """Left out, what begins with a CSI would take with it what the shell gets to see."""
    approval = replace(of_a_server(), kind="tool", args={"command": "rm -r a \x9b / ~"}, context={})
    assert "rm -r a \\x9b / ~" in question(approval).message


def test_an_address_of_a_tool_server_is_shown_whole() -> None:
    url = "https://pay.example/" + "a" * 500
    approval = of_a_server(mode="url", url=url, schema={})
    assert url in question(approval).message
    assert Attention().reply(PUSH, approval, YES) == Approved()
    assert isinstance(Attention().reply(PUSH, approval, NO), Denied)


@pytest.mark.parametrize(
    ("length", "answer", "seconds", "counts"),
    [
        (10, YES, 2.0, True),
        (3_900, YES, 2.0, False),
        (3_900, YES, 6.0, True),
        (400_000, YES, 6.0, True),
        (3_900, NO, 2.0, True),
        (3_900, DECLINED, 2.0, True),
    ],
)
def test_a_yes_takes_as_long_as_the_question_is_to_read(
    length: int, answer: Elicited, seconds: float, counts: bool
) -> None:
    approval = replace(of_a_server(), kind="tool", args={"text": "x" * length}, context={})
    answer = replace(answer, seconds=seconds)
    attention = Attention()
    assert (attention.reply(PUSH, approval, answer) is not None) is counts
    assert ("nobody can have read" in attention.note(PUSH, approval, answer)) is not counts
    assert attention.asks(PUSH), "who is only quick is asked again"
