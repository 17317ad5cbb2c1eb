"""Answers of a declared type: whoever writes the answer of a pattern is held to it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from corral.agents.patterns.registry import PATTERNS
from corral.agents.typed_answer import FAILED
from corral.runtime.config import Settings
from corral.runtime.models.contract import ModelRequest
from tests.agents.patterns.every import pair, patterned, sane
from tests.agents.patterns.support import Answering, answers, solved, wants
from tests.agents.patterns.teams import calling, hand, lead, task, worker
from tests.runtime.agents import Turn

every_pattern = pytest.mark.parametrize("name", PATTERNS)


class Price(BaseModel):
    """A price."""

    amount: int


class Offer(BaseModel):
    """A price with words about it."""

    amount: int
    words: str


FITS = json.dumps({"amount": 7})


def is_asked_again(request: ModelRequest) -> bool:
    return "no answer of the declared type" in str(request.messages[-1].text)


def hesitant(request: ModelRequest) -> Turn | str:
    """Does as a sane model does, and gives a price only when it is asked for it again."""
    if wants(request) == "Price" and is_asked_again(request):
        return FITS
    return sane(replace(request, output=None) if wants(request) == "Price" else request)


@every_pattern
async def test_who_gives_no_answer_of_the_type_is_asked_again(
    settings: Settings, name: str
) -> None:
    model = Answering(hesitant)
    agent = patterned(name, model, *pair(model), returns=Price)
    done = await solved(settings, agent)
    assert json.loads(done.output) == {"amount": 7}
    assert any(map(is_asked_again, model.asked))


@every_pattern
async def test_who_never_does_is_asked_so_often_and_hands_on_nothing(
    settings: Settings, name: str
) -> None:
    model = Answering(
        lambda request: (
            sane(replace(request, output=None)) if wants(request) == "Price" else sane(request)
        )
    )
    agent = patterned(name, model, *pair(model), returns=Price)
    assert (await solved(settings, agent)).output == FAILED


@pytest.mark.parametrize("name", ["plan_execute", "orchestrator_workers", "budget_forcing"])
async def test_what_is_not_the_answer_is_not_held_to_its_type(
    settings: Settings, name: str
) -> None:
    """Steps, parts and thoughts are the agent's own work, and free text."""
    model = Answering(hesitant)
    await solved(settings, patterned(name, model, returns=Price))
    free = [request for request in model.asked if request.output is None]
    assert free
    assert not any("JSON Schema" in str(request.messages[0].text) for request in free)


PARTS: dict[str, dict[str, Any]] = {
    "reflection": {"generator": "alpha", "rounds": 1},
    "debate": {"debaters": ["alpha", "beta"], "rounds": 1},
    "router": {"itself": False},
    "cascade": {"threshold": 0.0},
    "network": {},
    "supervisor": {"answer": "worker"},
}
"""Patterns whose answer is a sub-agent's, word for word."""


@pytest.mark.parametrize("name", PARTS)
async def test_a_sub_agent_that_answers_for_it_is_held_to_its_type(
    settings: Settings, name: str
) -> None:
    def only_alpha(request: ModelRequest) -> Turn | str:
        if wants(request):
            return hesitant(request)
        is_begin = request.messages[-1].type == "human"
        return calling(task("alpha", "Do it.")) if is_begin and request.tools else "No price."

    own = Answering(only_alpha if name == "supervisor" else hesitant)
    model = Answering(hesitant)
    agent = patterned(name, own, *pair(model), options=PARTS[name], returns=Price)
    assert json.loads((await solved(settings, agent)).output) == {"amount": 7}
    assert any(map(is_asked_again, model.asked))


async def test_who_takes_over_from_a_supervisor_is_held_to_its_type(settings: Settings) -> None:
    coordinator = Answering(lambda _: calling(hand("alice")))
    agent = lead(coordinator, worker("alice", hesitant), handoffs=True, returns=Price)
    assert json.loads((await solved(settings, agent)).output) == {"amount": 7}


@pytest.mark.parametrize(("returns", "told"), [(Price, ""), (Offer, "Look at the rent.")])
async def test_members_hand_over_and_of_a_closed_type_no_word_gets_out(
    settings: Settings, returns: type[BaseModel], told: str
) -> None:
    first = worker("first", lambda _: calling(hand("second", "Look at the rent.")))
    fits = json.dumps({"amount": 7, **({"words": "Dear."} if returns is Offer else {})})
    second = worker("second", fits)
    agent = answers([], pattern="network", agents=(first, second), returns=returns)
    done = await solved(settings, agent)
    assert json.loads(done.output)["amount"] == 7
    (asked,) = [entry for entry in done.journal if (entry.kind, entry.name) == ("agent", "second")]
    request: Any = asked.request
    assert request["args"] == {"task": told or "Go."}
