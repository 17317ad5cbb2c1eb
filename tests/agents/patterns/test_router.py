"""The router: who is chosen, what they see, who stands in, and all that a run must survive."""

from __future__ import annotations

import pytest

import corral
from corral.errors import ConfigError
from corral.runtime.config import Settings
from corral.runtime.models.contract import JsonOutput, ModelRequest
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
from tests.agents.patterns.teams import heard, worker
from tests.runtime.agents import Ledger, Turn, turn

BROKEN: Turn = {"error": "overloaded"}


def routing(chosen: str, *team: corral.Agent, **options: object) -> corral.Agent:
    """A router that decides for this one, and answers itself where it has to."""

    def reply(request: ModelRequest) -> Turn | str:
        return deciding(agent=chosen) if wants(request) == "Route" else "I answer."

    model = Answering(reply)
    return answers(model, name="desk", agents=team, pattern="router", options=options)


def staff() -> tuple[corral.Agent, corral.Agent]:
    """Two to choose from."""
    return (
        worker("billing", description="Invoices and payments."),
        worker("support", description="Things that do not work."),
    )


@pytest.mark.parametrize(
    ("chosen", "answer"),
    [("billing", "billing is done."), ("support", "support is done."), ("desk", "I answer.")],
)
async def test_the_chosen_one_answers(settings: Settings, chosen: str, answer: str) -> None:
    done = await solved(settings, routing(chosen, *staff()), "My invoice is wrong.")
    assert (done.output, done.calls) == (answer, 2)


async def test_the_decision_is_held_to_the_names_and_knows_what_each_is_for(
    settings: Settings,
) -> None:
    agent = routing("billing", *staff())
    await solved(settings, agent, "My invoice is wrong.")
    assert "- support: Things that do not work." in heard(agent)
    model = agent.chat_model
    assert isinstance(model, Answering)
    output = model.asked[0].output
    assert isinstance(output, JsonOutput)
    assert output.schema["properties"]["agent"]["enum"] == ["desk", "billing", "support"]


async def test_who_is_not_to_answer_itself_cannot_be_chosen(settings: Settings) -> None:
    agent = routing("desk", *staff(), itself=False, default="support")
    assert (await solved(settings, agent)).output == "support is done."


async def test_without_a_choice_nothing_is_decided(settings: Settings) -> None:
    agent = routing("nobody", staff()[0], itself=False)
    done = await solved(settings, agent)
    assert (done.output, done.calls) == ("billing is done.", 1)


@pytest.mark.parametrize(
    ("default", "answer"), [("support", "support is done."), ("", "I answer.")]
)
async def test_for_who_fails_the_default_stands_in(
    settings: Settings, default: str, answer: str
) -> None:
    team = (worker("billing", lambda _: BROKEN), staff()[1])
    done = await solved(settings, routing("billing", *team, default=default))
    assert done.output == answer


async def test_why_the_default_fails_is_the_answer(settings: Settings) -> None:
    team = (worker("billing", lambda _: BROKEN), worker("support", lambda _: BROKEN))
    done = await solved(settings, routing("billing", *team, default="support"))
    assert "The agent support could not go on." in done.output
    assert "overloaded" in done.output


@pytest.mark.parametrize("nonsense", ["", "%$ no JSON", '{"agent": "nobody"}'])
async def test_garbage_goes_to_the_default(settings: Settings, nonsense: str) -> None:
    agent = answers(
        Garbage(nonsense), agents=staff(), pattern="router", options={"default": "support"}
    )
    assert (await solved(settings, agent)).output == "support is done."


@pytest.mark.parametrize(("history", "sees"), [("all", True), ("nothing", False)])
async def test_what_the_chosen_one_sees_of_the_conversation(
    settings: Settings, history: str, sees: bool
) -> None:
    agent = routing("billing", *staff(), history=history)
    async with corral.open(allowing(settings)) as c:
        first = await solved_in(c, agent, "My number is 7.")
        await solved_in(c, agent, "What is it?", first.result.thread)
    told = heard(agent.agents[0], 1)  # type: ignore[arg-type]  # they are agents, not names
    assert ("My number is 7." in told, "What is it?" in told) == (sees, True)


async def test_a_router_without_a_team_is_refused(settings: Settings) -> None:
    async with corral.open(settings) as c:
        with pytest.raises(ConfigError, match="no sub-agents: it needs 1 or more"):
            await c.run("Go.", corral.RunOptions(agent=routing("billing")))


def paying(ledger: Ledger) -> corral.Agent:
    """A router whose chosen one pays before it answers."""

    def reply(request: ModelRequest) -> Turn | str:
        return "Paid 5." if request.messages[-1].type == "tool" else turn("", pay={"amount": 5})

    return routing("billing", worker("billing", reply, functions=ledger.tools()), staff()[1])


async def test_an_approval_inside_of_the_chosen_one(settings: Settings) -> None:
    ledger = Ledger()
    assert await approved(settings, paying(ledger), "pay") == 1
    assert ledger.paid == [5]


@pytest.mark.parametrize("after", [1, 2, 3])
async def test_cut_off_and_resumed(settings: Settings, after: int) -> None:
    ledger = Ledger()
    done = await cut_and_resumed(settings, paying(ledger), after)
    assert (done.output, ledger.paid) == ("Paid 5.", [5])


async def test_the_request_is_the_task_word_for_word(settings: Settings) -> None:
    agent = routing("billing", *staff())
    await solved(settings, agent, "Charge me {less}.")
    billing = agent.agents[0].chat_model  # type: ignore[union-attr]  # an agent, not a name
    assert isinstance(billing, Answering)
    assert text_of(billing.asked[0]).splitlines()[-1] == "Charge me {less}."
