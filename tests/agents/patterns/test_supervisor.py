"""Supervisors: tasks for workers, merged results, hand-overs, and an end whatever happens."""

from __future__ import annotations

from typing import Any

import pytest

import corral
from corral.errors import ConfigError
from corral.policies.budgets import Budget
from corral.runtime.config import Settings
from corral.runtime.models.contract import ModelRequest
from tests.agents.patterns.support import (
    Answering,
    Garbage,
    allowing,
    answers,
    approved,
    cut_and_resumed,
    deciding,
    solved,
    solved_in,
    text_of,
    wants,
)
from tests.agents.patterns.teams import (
    DONE,
    calling,
    function,
    hand,
    heard,
    lead,
    results,
    task,
    worker,
)
from tests.runtime.agents import Turn, turn

BOTH = calling(task("alice", "Do a."), task("bob", "Do b."), text="Both of you.")


def pay(amount: int) -> str:
    """Pay an amount."""
    return f"paid {amount}"


async def test_results_of_parallel_workers_are_merged_in_the_order_of_the_calls(
    settings: Settings,
) -> None:
    model = Answering(lambda request: DONE if results(request) else BOTH)
    done = await solved(settings, lead(model, worker("alice"), worker("bob")))
    assert done.output == "All done."
    assert results(model.asked[1]) == ["alice is done.", "bob is done."]
    assert [e.path for e in done.journal if e.kind == "agent"] == ["2.work[0]#0", "2.work[1]#0"]


async def test_the_coordinator_uses_its_own_tools_beside_its_workers(settings: Settings) -> None:
    turns = [calling(task("alice", "Do a."), function("pay", amount=3)), DONE]
    alice = worker("alice")
    agent = lead([], alice).model_copy(
        update={"functions": (pay,), "chat_model": corral.ScriptedModel(turns)}
    )
    done = await solved(settings, agent)
    assert [e.name for e in done.journal if e.kind in ("tool", "agent")] == [
        "alice",
        "functions__pay",
    ]


SEEN: dict[str, tuple[bool, bool, bool]] = {  # the request, the answer before, the summary
    "nothing": (False, False, False),
    "task": (True, False, False),
    "summary": (False, False, True),
    "all": (True, True, False),
}


@pytest.mark.parametrize("history", SEEN)
async def test_what_a_worker_sees_of_the_history_is_a_choice(
    settings: Settings, history: str
) -> None:
    def reply(request: ModelRequest) -> Turn | str:
        if request.purpose == "summary":
            return "Sum of it all."
        newest = [m for m in request.messages if m.type == "human"][-1]
        if results(request) or "First" in str(newest.text):
            return "An early answer."
        return calling(task("alice", "Do a."))

    alice = worker("alice")
    agent = lead(Answering(reply), alice, history=history)
    async with corral.open(allowing(settings)) as c:
        first = await solved_in(c, agent, "First question.")
        await solved_in(c, agent, "Second question.", first.result.thread)
    seen = heard(alice)
    found = tuple(words in seen for words in ("Second q", "An early answer.", "Sum of it all."))
    assert found == SEEN[history]
    assert "Do a." in seen


async def test_a_second_prompt_sees_the_answers_and_begins_a_new_talk(settings: Settings) -> None:
    model = Answering(lambda request: DONE if results(request) else BOTH)
    agent = lead(model, worker("alice"), worker("bob"), rounds=2)
    async with corral.open(allowing(settings)) as c:
        first = await solved_in(c, agent, "First.")
        second = await solved_in(c, agent, "Second.", first.result.thread)
    assert (second.output, second.calls) == ("All done.", 4)
    assert results(model.asked[2]) == []
    assert "All done." in text_of(model.asked[2])


async def test_a_worker_that_takes_over_answers_in_its_own_words(settings: Settings) -> None:
    alice = worker("alice", "Alice, word for word.")
    done = await solved(settings, lead([calling(hand("alice", "Yours."))], alice, handoffs=True))
    assert (done.output, done.calls) == ("Alice, word for word.", 2)
    assert "Yours." in heard(alice)


async def test_of_two_that_are_to_take_over_the_first_does(settings: Settings) -> None:
    bob = worker("bob")
    turns = [calling(hand("alice"), hand("bob"), task("bob", "Beside it."))]
    done = await solved(settings, lead(turns, worker("alice"), bob, handoffs=True))
    assert done.output == "alice is done."
    assert [e.name for e in done.journal if e.kind == "agent"] == ["alice", "bob"]
    assert "Beside it." in heard(bob)


async def test_one_that_takes_over_and_fails_is_told_to_the_coordinator(settings: Settings) -> None:
    model = Answering(lambda request: DONE if results(request) else calling(hand("alice")))
    broken = worker("alice", lambda _: {"error": "the server is gone"})
    done = await solved(settings, lead(model, broken, handoffs=True))
    assert done.output == "All done."
    assert "the server is gone" in results(model.asked[1])[0]


async def test_no_worker_takes_over_where_the_options_do_not_say_so(settings: Settings) -> None:
    model = Answering(lambda request: DONE if results(request) else calling(hand("alice")))
    done = await solved(settings, lead(model, worker("alice")))
    assert done.output == "All done."
    assert results(model.asked[1])[0].startswith("There is no tool 'handoff__alice'.")


@pytest.mark.parametrize("rules", [("deny", "Denied by policy"), ("ask", "Not him.")])
async def test_a_refused_handoff_is_a_result(settings: Settings, rules: tuple[str, str]) -> None:
    action, told = rules
    asking = corral.load_settings(
        {
            "home": settings.home,
            "workspace": settings.workspace,
            "rules": [{"tool": "handoff__alice", "action": action}],
        }
    )
    model = Answering(lambda request: DONE if results(request) else calling(hand("alice")))
    options = corral.RunOptions(agent=lead(model, worker("alice"), handoffs=True))
    async with corral.open(asking) as c:
        result = await c.run("Go.", options)
        if action == "ask":
            await c.deny(result.approvals[0].id, told)
            result = await c.resume(result.run, options)
        assert (result.status, result.output) == ("completed", "All done.")
        assert told in results(model.asked[1])[0]
        assert (await c.replay(result.run)).status == "identical"


async def test_a_handoff_that_a_human_edits_is_told_as_edited(settings: Settings) -> None:
    asking = corral.load_settings(
        {
            "home": settings.home,
            "workspace": settings.workspace,
            "rules": [{"tool": "handoff__*", "action": "ask"}],
        }
    )
    alice = worker("alice")
    options = corral.RunOptions(agent=lead([calling(hand("alice", "Old."))], alice, handoffs=True))
    async with corral.open(asking) as c:
        paused = await c.run("Go.", options)
        await c.approve(paused.approvals[0].id, args={"message": "New words."})
        done = await c.resume(paused.run, options)
        assert done.output == "alice is done."
        assert (await c.replay(done.run)).status == "identical"
    assert "New words." in heard(alice)
    assert "Old." not in heard(alice)


async def test_the_answer_can_be_the_workers_unchanged(settings: Settings) -> None:
    alice = worker("alice", "Alice, word for word.")
    model = Answering(
        lambda request: "She said so." if results(request) else calling(task("alice", "Do a."))
    )
    done = await solved(settings, lead(model, alice, answer="worker"))
    assert done.output == "Alice, word for word."


async def test_of_several_workers_the_coordinator_makes_the_answer(settings: Settings) -> None:
    model = Answering(lambda request: DONE if results(request) else BOTH)
    agent = lead(model, worker("alice"), worker("bob"), answer="worker")
    assert (await solved(settings, agent)).output == "All done."


# Ends


async def test_after_its_rounds_the_coordinator_must_answer(settings: Settings) -> None:
    def reply(request: ModelRequest) -> Turn | str:
        if not request.tools:
            return "With what I have."
        return calling(task("alice", f"Task {len(results(request))}."))

    done = await solved(settings, lead(Answering(reply), worker("alice"), rounds=3))
    assert done.output == "With what I have."
    assert sum(e.kind == "agent" for e in done.journal) == 2


@pytest.mark.parametrize(("said", "output"), [("", "alice is done."), ("Words.", "Words.")])
async def test_calls_in_the_last_round_are_not_made(
    settings: Settings, said: str, output: str
) -> None:
    model = Answering(lambda _: calling(task("alice", "Again."), text=said))
    done = await solved(settings, lead(model, worker("alice"), rounds=2))
    assert done.output == output
    assert sum(e.kind == "agent" for e in done.journal) == 1


async def test_fifty_calls_in_one_turn_are_bounded(settings: Settings) -> None:
    many = calling(*(task("alice", f"Task {number}.") for number in range(50)))
    model = Answering(lambda request: DONE if results(request) else many)
    done = await solved(settings, lead(model, worker("alice"), calls=5))
    assert sum(e.kind == "agent" for e in done.journal) == 5
    shown = results(model.asked[1])
    assert len(shown) == 50
    told = "This call was not made: no more than 5 are made at once."
    assert shown.count(told) == 45
    assert shown.count("alice is done.") == 5


async def test_a_run_gives_so_many_tasks_and_no_more(settings: Settings) -> None:
    model = Answering(
        lambda request: DONE if len(results(request)) > 3 else BOTH if request.tools else DONE
    )
    agent = lead(model, worker("alice"), worker("bob"), tasks=3)
    done = await solved(settings, agent)
    assert sum(e.kind == "agent" for e in done.journal) == 3
    assert any(text.startswith("This task was not given") for text in results(model.asked[2]))


@pytest.mark.parametrize(
    "call",
    [
        task("nobody", "x"),
        {"name": "agents__alice", "args": {}},
        {"name": "agents__alice", "args": {"task": 7}},
        {"name": "no such tool", "args": {}},
    ],
    ids=["unknown worker", "no task", "not a text", "unknown tool"],
)
async def test_wrong_calls_are_results_that_name_what_there_is(
    settings: Settings, call: dict[str, Any]
) -> None:
    model = Answering(lambda request: DONE if results(request) else calling(call))
    done = await solved(settings, lead(model, worker("alice")))
    assert done.output == "All done."
    (told,) = results(model.asked[1])
    assert "agents__alice" in told or "task" in told


@pytest.mark.parametrize("nonsense", ["%$ no JSON", "", "   "])
@pytest.mark.parametrize("routing", ["tools", "decision"])
async def test_garbage_ends(settings: Settings, nonsense: str, routing: str) -> None:
    agent = lead(Garbage(nonsense), worker("alice"), routing=routing)
    done = await solved(settings, agent)
    assert done.output.strip() == (nonsense.strip() or "The team has found no answer.")


# By decision


def deciding_for(*turns: tuple[str, str]) -> Answering:
    """A coordinator that decides in this order, and then answers."""
    left = list(turns)

    def reply(request: ModelRequest) -> Turn | str:
        if not wants(request):
            return "All done."
        decided = sum(
            "Report of" in str(m.text) or "could not" in str(m.text) for m in request.messages
        )
        worker_name, what = left[min(decided, len(left) - 1)]
        return deciding(worker=worker_name, task=what)

    return Answering(reply)


async def test_a_coordinator_that_cannot_call_tools_decides(settings: Settings) -> None:
    bob = worker("bob", description="It can do b.")
    model = deciding_for(("alice", "Do a."), ("bob", "Do b."), ("finish", ""))
    done = await solved(settings, lead(model, worker("alice"), bob, routing="decision"))
    assert done.output == "All done."
    assert [e.name for e in done.journal if e.kind == "agent"] == ["alice", "bob"]
    assert "bob: It can do b." in text_of(model.asked[0])
    assert "alice is done." in text_of(model.asked[-1])


async def test_decisions_without_end_end(settings: Settings) -> None:
    model = deciding_for(
        *((("alice", "bob")[number % 2], f"Task {number}.") for number in range(9))
    )
    agent = lead(model, worker("alice"), worker("bob"), routing="decision", rounds=4)
    done = await solved(settings, agent)
    assert sum(e.kind == "agent" for e in done.journal) == 3
    assert done.output == "All done."


async def test_the_same_decision_twice_is_the_end(settings: Settings) -> None:
    model = deciding_for(("alice", "Do a."))
    done = await solved(settings, lead(model, worker("alice"), routing="decision", answer="worker"))
    assert sum(e.kind == "agent" for e in done.journal) == 1
    assert done.output == "alice is done."


async def test_a_decision_for_somebody_unknown_is_asked_again_and_then_the_end(
    settings: Settings,
) -> None:
    model = deciding_for(("nobody", "Do it."))
    done = await solved(settings, lead(model, worker("alice"), routing="decision"))
    assert (done.output, sum(e.kind == "agent" for e in done.journal)) == ("All done.", 0)


# Durability


@pytest.mark.parametrize("after", range(1, 6))
async def test_cut_off_and_resumed(settings: Settings, after: int) -> None:
    model = Answering(lambda request: DONE if results(request) else BOTH)
    done = await cut_and_resumed(settings, lead(model, worker("alice"), worker("bob")), after)
    assert done.output == "All done."
    assert len(model.asked) == 2


def hierarchy(pattern: str = "hierarchical", **fields: Any) -> corral.Agent:
    """Three levels: a lead over two leads over two workers each, one of whom pays."""

    def paying(name: str) -> corral.Agent:
        def reply(request: ModelRequest) -> Turn | str:
            return f"{name} paid." if results(request) else calling(function("pay", amount=1))

        return worker(name, reply, functions=(pay,))

    def over(*names: str) -> Answering:
        asking = calling(*(task(name, f"Do your part, {name}.") for name in names))
        return Answering(lambda request: DONE if results(request) else asking)

    def middle(name: str, *team: corral.Agent) -> corral.Agent:
        own = {} if pattern == "hierarchical" else {"pattern": pattern}
        return answers(over(*(one.name for one in team)), name=name, agents=team, **own)

    left = middle("left", paying("a"), worker("b"))
    right = middle("right", worker("c"), worker("d"))
    given = {"name": "top", "pattern": pattern, "agents": (left, right), **fields}
    return answers(over("left", "right"), **given)


async def test_supervisors_of_supervisors(settings: Settings) -> None:
    done = await solved(settings, hierarchy())
    assert done.output == "All done."
    agents = [e.path for e in done.journal if e.kind == "agent"]
    assert "2.work[1]#0/2.work[0]#0" in agents
    assert len(agents) == 6


async def test_an_approval_in_the_deepest_agent(settings: Settings) -> None:
    assert await approved(settings, hierarchy("supervisor"), "pay") == 1


async def test_a_budget_over_all_levels(settings: Settings) -> None:
    options = corral.RunOptions(agent=hierarchy(), budget=Budget(tool_calls=4, at_limit="answer"))
    async with corral.open(allowing(settings)) as c:
        stopped = await c.run("Go.", options)
        assert stopped.status == "stopped"
        assert "the run's budget" in str(stopped.error)
        more = corral.RunOptions(agent=options.agent, budget=Budget(tool_calls=50))
        done = await c.resume(stopped.run, more)
        assert (done.status, done.output) == ("completed", "All done."), done.error
        assert (await c.replay(done.run)).status == "identical"


# Configuration


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"agents": ()}, "has no sub-agents"),
        ({"options": {"rounds": 0}}, "rounds"),
        ({"options": {"parallel": 99}}, "parallel"),
        ({"options": {"colour": "red"}}, "colour"),
    ],
)
async def test_what_cannot_work_is_said_before_anything_is_stored(
    settings: Settings, fields: dict[str, Any], words: str
) -> None:
    agent = lead([DONE], worker("alice")).model_copy(update=fields)
    async with corral.open(settings) as c:
        with pytest.raises(ConfigError) as caught:
            await c.run("Go.", corral.RunOptions(agent=agent))
        assert words in caught.value.message
        assert await c.records.runs() == []


async def test_nobody_may_be_called_as_the_end_is(settings: Settings) -> None:
    agent = lead([turn("x")], worker("finish"), routing="decision")
    async with corral.open(settings) as c:
        with pytest.raises(ConfigError, match="finish"):
            await c.run("Go.", corral.RunOptions(agent=agent))
