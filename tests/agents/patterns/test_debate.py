"""Debate: who speaks, who decides, when it ends, and all that a run must survive."""

from __future__ import annotations

import json
from typing import Any

import pytest

import corral
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
from tests.runtime.agents import Turn

REPLY = "Others have answered"


def speaking(*first: str, then: str = "", winner: Any = 2) -> Answering:
    """A model that says the Nth text as debater N, then with what the others said ``then``."""

    def reply(request: ModelRequest) -> Turn | str:
        if wants(request) == "Judgement":
            return deciding(winner=winner, why="It is.")
        if then and REPLY in text_of(request):
            return then
        return first[request.sampling.seed or 0]

    return Answering(reply)


def debating(model: Any, *functions: Any, agents: Any = (), **options: Any) -> corral.Agent:
    return answers(model, *functions, pattern="debate", options=options, agents=agents)


async def test_the_judge_decides_between_the_last_answers(settings: Settings) -> None:
    model = speaking("one", "two", "three", winner=3)
    done = await solved(settings, debating(model, rounds=1))
    assert (done.output, done.calls) == ("three", 4)
    (judging,) = (request for request in model.asked if wants(request))
    assert "<debater_2>\ntwo\n</debater_2>" in text_of(judging)


async def test_each_sees_what_the_others_said_and_not_the_own_answer_again(
    settings: Settings,
) -> None:
    model = speaking("one", "two", "three")
    await solved(settings, debating(model, rounds=2))
    replies = [request for request in model.asked if REPLY in text_of(request)]
    shown = {r.sampling.seed: text_of(r).count("<answer>") for r in replies if not wants(r)}
    assert shown == {0: 2, 1: 2, 2: 2}
    first = next(text_of(r) for r in replies if r.sampling.seed == 0)
    assert "<answer>\none" not in first
    assert "<answer>\nthree" in first


async def test_it_ends_when_all_say_the_same(settings: Settings) -> None:
    done = await solved(settings, debating(speaking("7", "7.0", "**7**"), rounds=5))
    assert (done.output, done.calls) == ("7", 3)
    agreeing = debating(speaking("1", "2", "3", then="So it is 2"), rounds=5)
    done = await solved(settings, agreeing)
    assert (done.output, done.calls) == ("So it is 2", 6)


async def test_it_ends_when_nobody_changes_their_mind(settings: Settings) -> None:
    done = await solved(settings, debating(speaking("1", "2", "3"), rounds=9, consensus=False))
    assert (done.output, done.calls) == ("2", 7)


async def test_it_ends_after_its_rounds(settings: Settings) -> None:
    def reply(request: ModelRequest) -> Turn | str:
        text, seed = text_of(request), request.sampling.seed or 0
        return deciding(winner=1) if wants(request) else f"{seed} after {len(text)}"

    done = await solved(settings, debating(Answering(reply), rounds=3, size=2))
    assert done.calls == 7


@pytest.mark.parametrize("winner", [0, 4, "two", None])
async def test_without_a_judgement_the_majority_decides(settings: Settings, winner: Any) -> None:
    model = speaking("one", "two", "two", winner=winner)
    done = await solved(settings, debating(model, rounds=1))
    assert (done.output, done.calls) == ("two", 6)  # the judge was asked three times


@pytest.mark.parametrize("nonsense", ["", "%$ no JSON", "{}", json.dumps({"winner": [1]})])
async def test_garbage_comes_to_an_end(settings: Settings, nonsense: str) -> None:
    assert (await solved(settings, debating(Garbage(nonsense)))).output == nonsense


async def test_a_debater_who_fails_stays_with_the_last_answer(settings: Settings) -> None:
    def reply(request: ModelRequest) -> Turn | str:
        seed = request.sampling.seed or 0
        if wants(request):
            return deciding(winner=1)
        if seed == 0 and REPLY in text_of(request):
            return {"error": "overloaded"}
        return f"debater {seed}"

    done = await solved(settings, debating(Answering(reply), size=2))
    assert done.output == "debater 0"


async def test_when_all_fail_the_run_does_and_can_be_resumed(settings: Settings) -> None:
    broken = True

    def reply(_request: ModelRequest) -> Turn | str:
        return {"error": "overloaded"} if broken else "fine"

    options = corral.RunOptions(agent=debating(Answering(reply)))
    async with corral.open(allowing(settings)) as c:
        failed = await c.run("Go.", options)
        assert failed.status == "failed"
        broken = False
        done = await c.resume(failed.run, options)
        assert (done.status, done.output) == ("completed", "fine"), done.error


def team() -> corral.Agent:
    """Two sub-agents that debate, of whom one looks something up, and one that judges."""

    @corral.tool(read_only=True)
    def look(topic: str) -> str:
        """Look a topic up."""
        return f"about {topic}"

    def looking(request: ModelRequest) -> Turn | str:
        if request.messages[-1].type == "tool":
            return "I looked it up."
        return {"text": "", "tool_calls": [{"name": "functions__look", "args": {"topic": "it"}}]}

    members = (
        answers(Answering(looking), look, name="careful"),
        answers(Answering(lambda _: "I guess."), name="quick"),
        answers(Answering(lambda _: deciding(winner=1, why="It was looked up.")), name="judge"),
    )
    debaters = ["quick", "careful"]
    return debating(Garbage(), agents=members, debaters=debaters[::-1], judge="judge", rounds=1)


async def test_the_team_debates(settings: Settings) -> None:
    done = await solved(settings, team())
    assert (done.output, done.calls) == ("I looked it up.", 4)


async def test_approvals_inside_of_a_debater(settings: Settings) -> None:
    assert await approved(settings, team(), "look") == 1


@pytest.mark.parametrize("after", [1, 4])
async def test_cut_off_and_resumed(settings: Settings, after: int) -> None:
    assert (await cut_and_resumed(settings, team(), after)).output == "I looked it up."


async def test_a_flip_flop_is_no_loop(settings: Settings) -> None:
    """Two sub-agents that take over each other's answer, round after round."""

    def swapping(own: str, other: str) -> Answering:
        def reply(request: ModelRequest) -> str:
            return other if f"<you>\n{own}" in text_of(request) else own

        return Answering(reply)

    members = (
        answers(swapping("yes", "no"), name="pro"),
        answers(swapping("no", "yes"), name="con"),
    )
    model = Answering(lambda _: deciding(winner=1))
    agent = debating(model, agents=members, debaters=["pro", "con"], rounds=10)
    done = await solved(settings, agent)
    assert done.calls == 21
    assert "'loop':" not in str([entry.result for entry in done.journal])


async def test_speeches_do_not_reach_the_next_prompt(settings: Settings) -> None:
    def reply(request: ModelRequest) -> Turn | str:
        number = 2 if "Second." in text_of(request) else 1
        return deciding(winner=number) if wants(request) else f"{number}{request.sampling.seed}"

    agent = debating(Answering(reply), size=2, rounds=1)
    async with corral.open(allowing(settings)) as c:
        first = await solved_in(c, agent, "First.")
        second = await solved_in(c, agent, "Second.", first.result.thread)
    assert (first.output, second.output, second.calls) == ("10", "21", 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"debaters": ["nobody", "else"]}, "names 'nobody'"),
        ({"debaters": ["one"]}, "two or more"),
        ({"rounds": 0}, "rounds"),
        ({"size": 99}, "size"),
    ],
)
async def test_options_that_do_not_fit(
    settings: Settings, options: dict[str, Any], words: str
) -> None:
    agent = debating(Garbage(), **options)
    async with corral.open(settings) as c:
        with pytest.raises(corral.CorralError, match=words):
            await c.run("Go.", corral.RunOptions(agent=agent))
