"""Handing over: whatever pattern a member of a network has, it can, and it stays bounded."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph

import corral
from corral.agents.patterns.registry import PATTERNS
from corral.runtime.config import Settings
from corral.runtime.models.contract import ModelRequest
from tests.agents.patterns.every import pair, patterned, sane
from tests.agents.patterns.support import (
    Answering,
    answers,
    cut_and_resumed,
    deciding,
    solved,
    wants,
)
from tests.agents.patterns.teams import calling, hand, results, worker
from tests.runtime.agents import Turn

every_pattern = pytest.mark.parametrize("name", PATTERNS)


def passing(to: str, words: str = "Send the bill.") -> Any:
    """Hands over whenever it may, and else does as a sane model does."""

    def reply(request: ModelRequest) -> Turn | str:
        if wants(request) == "Takeover":
            return deciding(to=to, message=words)
        if f"handoff__{to}" in [tool.name for tool in request.tools] and not results(request):
            return calling(hand(to, words))
        return sane(request)

    return reply


def member(pattern: str, name: str, to: str, **fields: Any) -> corral.Agent:
    """An agent of a pattern, with workers of its own, that hands over."""
    model = Answering(sane)
    return patterned(pattern, Answering(passing(to)), *pair(model), name=name, **fields)


def network(*team: corral.Agent, **options: Any) -> corral.Agent:
    return answers([], name="net", pattern="network", agents=team, options=options)


def turns(done: Any) -> list[tuple[str, str]]:
    """Which members worked, in order, and on what."""
    given = [e for e in done.journal if e.kind == "agent" and "/" not in e.path]
    return [(entry.name, entry.request["args"]["task"]) for entry in given]


@every_pattern
async def test_a_member_of_every_pattern_hands_over(settings: Settings, name: str) -> None:
    second = worker("second")
    done = await solved(settings, network(member(name, "first", "second"), second))
    assert done.output == "second is done."
    assert turns(done) == [("first", "Go."), ("second", "Send the bill.")]


@pytest.mark.slow
@every_pattern
async def test_two_that_hand_over_for_ever_come_to_an_answer(settings: Settings, name: str) -> None:
    both = member(name, "one", "two"), member(name, "two", "one")
    done = await solved(settings, network(*both, handoffs=3))
    assert done.output
    assert [who for who, _ in turns(done)] == ["one", "two", "one", "two"]


@pytest.mark.parametrize("nonsense", ["", "no JSON", '{"to": "nobody"}', '{"to": "first"}'])
async def test_a_decision_for_nobody_else_lets_it_go_on_itself(
    settings: Settings, nonsense: str
) -> None:
    def reply(request: ModelRequest) -> Turn | str:
        return nonsense if wants(request) == "Takeover" else sane(request)

    first = patterned("reflection", Answering(reply), name="first")
    done = await solved(settings, network(first, worker("second")))
    assert (done.output, [who for who, _ in turns(done)]) == ("It is 7", ["first"])


async def test_a_handoff_that_was_decided_waits_for_a_human(settings: Settings) -> None:
    agent = network(member("debate", "first", "second"), worker("second"))
    rules = [{"tool": "handoff__*", "action": "ask"}]
    own = corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    )
    async with corral.open(own) as c:
        options = corral.RunOptions(agent=agent)
        paused = await c.run("Go.", options)
        (question,) = paused.approvals
        assert question.tool == "handoff__second"
        await c.deny(question.id, "Do it yourself.")
        done = await c.resume(paused.run, options)
    assert (done.status, done.output) == ("completed", "It is done: 7"), done.error


async def test_a_graph_of_ones_own_and_a_decider_hand_over_too(settings: Settings) -> None:
    def build(kit: corral.Kit) -> StateGraph[Any, Any, Any, Any]:
        async def answer(state: MessagesState) -> dict[str, Any]:
            return {"messages": [await kit.ask(state["messages"])]}

        graph = StateGraph(MessagesState)
        graph.add_node("answer", answer)
        graph.add_edge(START, "answer")
        return graph

    own = answers(Answering(passing("boss")), name="own", graph=build)
    boss = member("supervisor", "boss", "last", options={"routing": "decision"})
    done = await solved(settings, network(own, boss, worker("last")))
    assert (done.output, [who for who, _ in turns(done)]) == (
        "last is done.",
        ["own", "boss", "last"],
    )


@pytest.mark.parametrize("after", [1, 2])
async def test_cut_off_around_the_decision(settings: Settings, after: int) -> None:
    agent = network(member("mcts", "first", "second"), worker("second"))
    assert (await cut_and_resumed(settings, agent, after)).output == "second is done."
