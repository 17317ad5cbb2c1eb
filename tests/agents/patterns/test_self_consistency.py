"""Self-consistency: votes, ties, waves, tries that fail, and all that a run must survive."""

from __future__ import annotations

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
from tests.runtime.agents import Ledger, Turn, turn


def voting(*said: str | dict[str, str], **options: Any) -> tuple[corral.Agent, Answering]:
    """An agent whose try with seed N says the Nth text, and the model that it asks."""

    def reply(request: ModelRequest) -> Turn | str:
        return said[request.sampling.seed or 0]

    model = Answering(reply)
    given = {"extract": "last_number", "samples": len(said), **options}
    return answers(model, pattern="self_consistency", options=given), model


async def test_the_message_that_first_gave_the_winning_answer(settings: Settings) -> None:
    agent, model = voting("It is 3.", "That makes 7.", "I say 7.00!", early_stop=False)
    done = await solved(settings, agent)
    assert (done.output, done.calls) == ("That makes 7.", 3)
    assert sorted(request.sampling.seed or 0 for request in model.asked) == [0, 1, 2]
    assert {request.sampling.temperature for request in model.asked} == {0.7}


async def test_of_a_tie_the_first_seen_wins(settings: Settings) -> None:
    agent, _ = voting("2", "1", "1", "2")
    assert (await solved(settings, agent)).output == "2"


@pytest.mark.parametrize(
    ("said", "calls"), [(["5"] * 5, 3), (["5", "4", "5", "5", "1"], 4), (["1", "2", "3", "4"], 4)]
)
async def test_it_ends_when_the_majority_is_decided(
    settings: Settings, said: list[str], calls: int
) -> None:
    agent, _ = voting(*said)
    assert (await solved(settings, agent)).calls == calls


async def test_the_tries_differ_for_the_response_cache(settings: Settings) -> None:
    """Also where it keeps every answer: only the same prompt again gets the same answers."""
    agent, model = voting("1", "2", "2", early_stop=False)
    kept = corral.load_settings(
        {
            "home": settings.home,
            "workspace": settings.workspace,
            "cache": {"when": "always", "mode": "exact"},
        }
    )
    async with corral.open(kept) as c:
        assert (await solved_in(c, agent)).output == "2"
    assert len({request.sampling.seed for request in model.asked}) == 3


async def test_the_agents_own_seed_is_the_first(settings: Settings) -> None:
    model = Answering(lambda request: f"{request.sampling.seed} {request.sampling.temperature}")
    options = {"extract": "whole", "samples": 2, "temperature": None}
    sampling = {"seed": 40, "temperature": 0.2}
    agent = answers(model, pattern="self_consistency", options=options, sampling=sampling)
    assert (await solved(settings, agent)).output == "40 0.2"
    assert {request.sampling.seed for request in model.asked} == {40, 41}


async def test_a_model_states_the_answer_of_each_try(settings: Settings) -> None:
    def reply(request: ModelRequest) -> Turn | str:
        if wants(request) == "Final":
            return deciding(answer="Paris" if "capital" in text_of(request) else "Lyon")
        return "Lyon, I think" if request.sampling.seed == 0 else "The capital city is Paris."

    agent = answers(Answering(reply), pattern="self_consistency", options={"samples": 3})
    done = await solved(settings, agent)
    assert (done.output, done.calls) == ("The capital city is Paris.", 6)


async def test_answers_that_nobody_can_read_fall_back_to_the_text(settings: Settings) -> None:
    agent = answers(Garbage(draft="So it is\n42"), pattern="self_consistency")
    assert (await solved(settings, agent)).output == "So it is\n42"


@pytest.mark.parametrize("nonsense", ["", "%$ no JSON", "{}"])
async def test_garbage_comes_to_an_end(settings: Settings, nonsense: str) -> None:
    agent = answers(Garbage(nonsense), pattern="self_consistency")
    assert (await solved(settings, agent)).output == nonsense


async def test_a_try_that_fails_has_no_vote(settings: Settings) -> None:
    agent, _ = voting({"error": "overloaded"}, "3", "4", "4", early_stop=False)
    assert (await solved(settings, agent)).output == "4"


async def test_when_all_tries_fail_the_run_does_and_can_be_resumed(settings: Settings) -> None:
    broken = True

    def reply(_request: ModelRequest) -> Turn | str:
        return {"error": "overloaded"} if broken else "8"

    options = {"extract": "last_number", "samples": 2}
    agent = answers(Answering(reply), pattern="self_consistency", options=options)
    async with corral.open(allowing(settings)) as c:
        failed = await c.run("Go.", corral.RunOptions(agent=agent))
        assert (failed.status, "overloaded" in str(failed.error)) == ("failed", True)
        broken = False
        done = await c.resume(failed.run, corral.RunOptions(agent=agent))
        assert (done.status, done.output) == ("completed", "8"), done.error


def paying(ledger: Ledger) -> corral.Agent:
    """An agent that pays in every try before it answers."""

    def reply(request: ModelRequest) -> Turn | str:
        is_paid = request.messages[-1].type == "tool"
        return "Paid 5" if is_paid else turn("", pay={"amount": 5})

    options = {"extract": "last_number", "samples": 5, "early_stop": False}
    tools = ledger.tools()
    return answers(Answering(reply), *tools, pattern="self_consistency", options=options)


async def test_tries_that_make_the_same_calls_are_no_loop(settings: Settings) -> None:
    ledger = Ledger()
    done = await solved(settings, paying(ledger))
    assert (done.output, ledger.paid) == ("Paid 5", [5] * 5)


async def test_approvals_inside_of_tries(settings: Settings) -> None:
    ledger = Ledger()
    assert await approved(settings, paying(ledger), "pay") == 5
    assert ledger.paid == [5] * 5


@pytest.mark.parametrize("after", [1, 4])
async def test_cut_off_and_resumed(settings: Settings, after: int) -> None:
    def reply(request: ModelRequest) -> Turn | str:
        has_looked = request.messages[-1].type == "tool"
        return f"I say {request.sampling.seed}" if has_looked else turn("", balance={})

    options = {"extract": "last_number", "samples": 3}
    tools = Ledger().tools()
    agent = answers(Answering(reply), *tools, pattern="self_consistency", options=options)
    assert (await cut_and_resumed(settings, agent, after)).output == "I say 0"


async def test_votes_do_not_reach_the_next_prompt(settings: Settings) -> None:
    """And tries that say what was said before in the thread are no model that repeats itself."""

    def reply(request: ModelRequest) -> str:
        words = "a whole sentence of words that are the same each time:"
        return f"{words} {2 if 'Second' in str(request.messages[-1].text) else 1}"

    options = {"extract": "last_number", "samples": 5, "early_stop": False}
    agent = answers(Answering(reply), pattern="self_consistency", options=options)
    async with corral.open(allowing(settings)) as c:
        first = await solved_in(c, agent, "First.")
        second = await solved_in(c, agent, "Second.", first.result.thread)
    assert (first.output[-1], second.output[-1], second.calls) == ("1", "2", 5)
    assert "'told':" not in str([entry.result for entry in second.journal])
