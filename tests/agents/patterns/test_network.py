"""Networks: who may hand over to whom, who stays active, what they see, and where it ends."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

import corral
from corral.errors import ConfigError
from corral.runtime.config import Settings
from corral.runtime.events import AgentFinished
from corral.runtime.models.contract import ModelRequest
from tests.agents.patterns.support import (
    Answering,
    allowing,
    answers,
    approved,
    cut_and_resumed,
    replayed,
    solved,
    solved_in,
    text_of,
)
from tests.agents.patterns.teams import DONE, calling, function, hand, heard, lead, results, worker
from tests.runtime.agents import Turn


def network(*team: corral.Agent, **options: Any) -> corral.Agent:
    """A network of a team."""
    return answers([], name="net", pattern="network", agents=team, options=options)


def offered(request: ModelRequest) -> list[str]:
    """The names of the tools in a request."""
    return [spec.name for spec in request.tools]


def passing(name: str, to: str, message: str = "", text: str = "", **fields: Any) -> corral.Agent:
    """A member that hands over whenever it may."""

    def reply(request: ModelRequest) -> Turn | str:
        can = f"handoff__{to}" in offered(request) and not results(request)
        return calling(hand(to, message), text=text) if can else f"{name} answers."

    return worker(name, reply, **fields)


def order(done: Any) -> list[str]:
    """Who worked, in order."""
    return [e.name for e in done.journal if e.kind == "agent"]


async def test_whoever_gets_the_conversation_answers(settings: Settings) -> None:
    bob = worker("bob", description="For bills.")
    alice = passing("alice", "bob", "Send the bill.", "One moment.")
    done = await solved(settings, network(alice, bob), "I want my bill.")
    assert (done.output, order(done)) == ("bob is done.", ["alice", "bob"])
    seen = heard(bob)
    assert seen.index("I want my bill.") < seen.index("One moment.") < seen.index("Send the bill.")
    model: Any = alice.chat_model
    assert "For bills." in model.asked[0].tools[0].description


SEEN = {
    "nothing": (False, False),
    "task": (True, False),
    "all": (True, True),
}


@pytest.mark.parametrize("history", SEEN)
async def test_what_the_next_one_sees_is_a_choice(settings: Settings, history: str) -> None:
    bob = worker("bob")
    alice = passing("alice", "bob", "Go on, bob.", "One moment.")
    await solved(settings, network(alice, bob, history=history), "I want my bill.")
    seen = heard(bob)
    assert ("I want my bill." in seen, "One moment." in seen) == SEEN[history]
    assert "Go on, bob." in seen


@pytest.mark.parametrize(("stay", "second"), [(True, ["bob"]), (False, ["alice", "bob"])])
async def test_who_answered_stays_active(settings: Settings, stay: bool, second: list[str]) -> None:
    agent = network(passing("alice", "bob"), worker("bob"), stay=stay)
    async with corral.open(allowing(settings)) as c:
        first = await solved_in(c, agent, "First.")
        done = await solved_in(c, agent, "Second.", first.result.thread)
    assert order(done) == second


async def test_one_that_left_the_team_is_not_active_any_more(settings: Settings) -> None:
    async with corral.open(allowing(settings)) as c:
        agent = network(passing("alice", "bob"), worker("bob"))
        first = await solved_in(c, agent, "First.")
        agent = network(worker("alice"), worker("carol"))
        done = await solved_in(c, agent, "Second.", first.result.thread)
    assert order(done) == ["alice"]


async def test_who_may_hand_over_to_whom_is_ruled(settings: Settings) -> None:
    team = (passing("a", "b"), passing("b", "c"), passing("c", "a"))
    done = await solved(settings, network(*team, routes={"a": ["b"], "b": ["c"]}))
    assert order(done) == ["a", "b", "c"]
    assert done.output == "c answers."


async def test_everybody_may_hand_over_to_everybody_else(settings: Settings) -> None:
    model = Answering(lambda _: "Done.")
    team = (answers(model, name="a"), worker("b"), worker("c"))
    await solved(settings, network(*team))
    assert offered(model.asked[0]) == ["handoff__b", "handoff__c"]


async def test_a_thread_begins_where_the_options_say(settings: Settings) -> None:
    assert order(await solved(settings, network(worker("a"), worker("b"), start="b"))) == ["b"]


async def test_an_empty_message_hands_over_the_request(settings: Settings) -> None:
    bob = worker("bob")
    await solved(settings, network(passing("alice", "bob"), bob, history="nothing"), "My bill.")
    assert heard(bob).endswith("My bill.")


# Ends


async def test_ping_pong_ends_with_an_answer(settings: Settings) -> None:
    done = await solved(settings, network(passing("a", "b"), passing("b", "a"), handoffs=3))
    assert order(done) == ["a", "b", "a", "b"]
    assert done.output == "b answers."


@pytest.mark.parametrize("to", ["alice", "nobody"], ids=["itself", "unknown"])
async def test_a_handoff_to_nobody_is_a_result(settings: Settings, to: str) -> None:
    model = Answering(lambda request: "Then I do." if results(request) else calling(hand(to)))
    done = await solved(settings, network(answers(model, name="alice"), worker("bob")))
    assert (done.output, order(done)) == ("Then I do.", ["alice"])
    assert results(model.asked[1])[0].startswith(f"There is no tool 'handoff__{to}'.")


async def test_one_that_only_hands_over_ends_by_its_own_limit(settings: Settings) -> None:
    stubborn = worker("b", lambda _: calling(hand("a")), limits=corral.RunLimits(max_steps=3))
    done = await solved(settings, network(passing("a", "b"), stubborn, handoffs=1))
    assert order(done) == ["a", "b"]
    assert "step limit is 3" in done.output


async def test_of_two_handoffs_in_one_turn_the_first_counts(settings: Settings) -> None:
    both = worker("a", lambda _: calling(hand("c"), hand("b"), text="Both of you."))
    assert order(await solved(settings, network(both, worker("b"), worker("c")))) == ["a", "c"]


async def test_calls_beside_a_handoff_are_made(settings: Settings) -> None:
    made = []

    def note(text: str) -> str:
        """Note a text."""
        made.append(text)
        return "noted"

    both = worker("a", lambda _: calling(hand("b"), function("note", text="x")), functions=(note,))
    assert order(await solved(settings, network(both, worker("b")))) == ["a", "b"]
    assert made == ["x"]


def ruled(settings: Settings, action: str) -> Settings:
    """Settings with a rule about every handoff."""
    rules = [{"tool": "handoff__*", "action": action}]
    return corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    )


async def test_a_rule_can_refuse_a_handoff(settings: Settings) -> None:
    model = Answering(lambda request: "Then I do." if results(request) else calling(hand("b")))
    agent = network(answers(model, name="a"), worker("b"))
    async with corral.open(ruled(settings, "deny")) as c:
        done = await c.run("Go.", corral.RunOptions(agent=agent))
        await replayed(c, done.run, agent)
    assert (done.status, done.output) == ("completed", "Then I do.")
    assert results(model.asked[1])[0].startswith("Denied by policy")


@pytest.mark.parametrize("edited", [True, False])
async def test_a_handoff_can_wait_for_a_human(settings: Settings, edited: bool) -> None:
    bob = worker("b")
    agent = network(passing("a", "b", "Old words."), bob)
    options = corral.RunOptions(agent=agent)
    async with corral.open(ruled(settings, "ask")) as c:
        paused = await c.run("Go.", options)
        (question,) = paused.approvals
        assert (question.tool, question.args) == ("handoff__b", {"message": "Old words."})
        await c.approve(question.id, args={"message": "New words."} if edited else None)
        done = await c.resume(paused.run, options)
        await replayed(c, done.run, agent)
    assert done.output == "b is done."
    assert ("New words." in heard(bob), "Old words." in heard(bob)) == (edited, not edited)


async def test_who_fails_gives_back(settings: Settings) -> None:
    def reply(request: ModelRequest) -> Turn | str:
        seen = text_of(request)
        return "I do it myself." if "the server is gone" in seen else calling(hand("bob", "Do."))

    alice = worker("alice", reply)
    bob = worker("bob", lambda _: {"error": "the server is gone"})
    done = await solved(settings, network(alice, bob))
    assert (done.output, order(done)) == ("I do it myself.", ["alice", "bob", "alice"])


async def test_where_there_is_nobody_to_give_back_to_the_failure_is_the_answer(
    settings: Settings,
) -> None:
    broken = worker("a", lambda _: {"error": "the server is gone"})
    done = await solved(settings, network(broken, worker("b")))
    assert "the server is gone" in done.output


async def test_two_that_fail_do_not_pass_it_back_and_forth(settings: Settings) -> None:
    def reply(request: ModelRequest) -> Turn | str:
        again = "yours again" in text_of(request)
        return {"error": "gone"} if again else calling(hand("b"))

    broken = worker("b", lambda _: {"error": "gone"})
    done = await solved(settings, network(worker("a", reply), broken, handoffs=50))
    assert order(done) == ["a", "b", "a"]
    assert "gone" in done.output


# Members of other patterns


async def test_members_can_have_any_pattern(settings: Settings) -> None:
    reflecting = worker(
        "draft",
        lambda request: '{"score": 1}' if request.output else "A draft.",
        pattern="reflection",
    )
    done = await solved(settings, network(passing("a", "draft"), reflecting))
    assert (done.output, order(done)) == ("A draft.", ["a", "draft"])


async def test_a_supervisor_in_a_network_can_hand_over(settings: Settings) -> None:
    boss = lead([calling(hand("b", "For you."))], worker("w"), name="boss")
    bob = worker("b")
    done = await solved(settings, network(boss, bob))
    assert (done.output, order(done)) == ("b is done.", ["boss", "b"])
    assert "For you." in heard(bob)


async def test_a_network_can_be_a_worker(settings: Settings) -> None:
    model = Answering(
        lambda request: (
            DONE
            if results(request)
            else calling({"name": "agents__net", "args": {"task": "Do it."}})
        )
    )
    done = await solved(settings, lead(model, network(passing("a", "b"), worker("b"))))
    assert (done.output, results(model.asked[1])) == ("All done.", ["b is done."])


# Durability


@pytest.mark.parametrize("after", range(1, 6))
async def test_cut_off_and_resumed(settings: Settings, after: int) -> None:
    team = (passing("a", "b", "x"), passing("b", "c", "y"), worker("c"))
    agent = network(*team, routes={"a": ["b"], "b": ["c"]})
    assert (await cut_and_resumed(settings, agent, after)).output == "c is done."


async def test_an_approval_in_the_one_that_took_over(settings: Settings) -> None:
    def pay(amount: int) -> str:
        """Pay an amount."""
        return f"paid {amount}"

    def reply(request: ModelRequest) -> Turn | str:
        return "Paid." if results(request) else calling(function("pay", amount=1))

    payer = worker("b", reply, functions=(pay,))
    assert await approved(settings, network(passing("a", "b"), payer), "pay") == 1


async def test_a_cut_in_a_second_prompt_goes_on_with_who_is_active(settings: Settings) -> None:
    agent = network(passing("a", "b"), passing("b", "c"), worker("c"), routes={"a": ["b"]})
    options = corral.RunOptions(agent=agent)
    async with corral.open(allowing(settings)) as c:
        first = await solved_in(c, agent, "First.")
        again = corral.RunOptions(agent=agent, thread=first.result.thread)
        async with contextlib.aclosing(c.stream("Second.", again)) as events:
            async for event in events:
                if isinstance(event, AgentFinished):
                    break
        run = (await c.records.runs())[0].run
        done = await c.resume(run, options)
        assert (done.status, done.output) == ("completed", "b answers.")
        await replayed(c, run, agent)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"routes": {"a": ["nobody"]}}, "nobody"),
        ({"start": "nobody"}, "nobody"),
        ({"handoffs": 0}, "handoffs"),
    ],
)
async def test_what_names_nobody_is_said_at_once(
    settings: Settings, options: dict[str, Any], words: str
) -> None:
    async with corral.open(settings) as c:
        with pytest.raises(ConfigError, match=words):
            await c.run("Go.", corral.RunOptions(agent=network(worker("a"), **options)))


async def test_a_name_that_is_no_nodes_name_is_refused(settings: Settings) -> None:
    async with corral.open(settings) as c:
        with pytest.raises(ConfigError, match="a/b"):
            await c.run("Go.", corral.RunOptions(agent=network(worker("a/b"))))
