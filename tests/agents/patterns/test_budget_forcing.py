"""Budget forcing: longer thinking, shorter thinking, and what a run must survive."""

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
    solved,
    solved_in,
)
from tests.runtime.agents import Turn

THOUGHTS = (
    "The first idea is to add both numbers.",
    "But maybe the second one must be doubled before.",
    "Checking again, nothing speaks against this way at all.",
)


def last(request: ModelRequest) -> str:
    return str(request.messages[-1].text)


def thinking(*thoughts: str, answer: str = "42") -> Answering:
    """A model that thinks these thoughts one after the other, and then answers."""

    def reply(request: ModelRequest) -> str:
        if last(request) == "Final answer:":
            return answer
        waits = sum(str(message.text) == "Wait" for message in request.messages)
        return thoughts[waits]

    return Answering(reply)


def forced(model: Any, *functions: Any, **options: Any) -> corral.Agent:
    given = {"unit": "words", "least": 0, "most": 100, **options}
    return answers(model, *functions, pattern="budget_forcing", options=given)


def thoughts_in(model: Answering) -> list[str]:
    """What was thought, as the model was shown it when it had to answer."""
    shown = model.asked[-1].messages
    return [str(message.text) for message in shown if message.type == "ai"]


@pytest.mark.parametrize(
    ("options", "thoughts"),
    [
        ({}, 1),
        ({"least": 8}, 1),
        ({"least": 9}, 2),
        ({"least": 20}, 3),
        ({"least": 100}, 3),
        ({"least": 100, "waits": 1}, 2),
        ({"least": 100, "waits": 0}, 1),
    ],
)
async def test_thinking_that_is_too_short_goes_on(
    settings: Settings, options: dict[str, int], thoughts: int
) -> None:
    model = thinking(*THOUGHTS)
    done = await solved(settings, forced(model, **options))
    assert (done.output, done.calls) == ("42", thoughts + 1)
    assert thoughts_in(model) == list(THOUGHTS[:thoughts])
    assert "42" in done.aloud[-1]


async def test_thinking_that_is_too_long_is_cut_off(settings: Settings) -> None:
    model = thinking(*THOUGHTS)
    await solved(settings, forced(model, least=11, most=11))
    assert thoughts_in(model) == [THOUGHTS[0], "But maybe the"]
    assert [request.sampling.max_tokens for request in model.asked] == [44, 12, None]


async def test_tokens_are_limited_where_they_are_made(settings: Settings) -> None:
    script = [{"text": "word " * 400}, {"text": "short"}]
    agent = forced(script, unit="tokens", most=50)
    done = await solved(settings, agent)
    thought, _ = (entry.result for entry in done.journal if entry.kind == "model")
    assert isinstance(thought, dict)
    assert 0 < len(str(thought["text"])) <= 200
    assert done.output == "short"


async def test_the_agents_own_limit_counts_too(settings: Settings) -> None:
    model = thinking(*THOUGHTS)
    options = {"unit": "words", "least": 0, "most": 100}
    sampling = {"max_tokens": 30}
    agent = answers(model, pattern="budget_forcing", options=options, sampling=sampling)
    await solved(settings, agent)
    assert [request.sampling.max_tokens for request in model.asked] == [30, 30]


@pytest.mark.parametrize(
    "thought", ["I think that it is so and not otherwise.", "", "and on " * 200]
)
async def test_nothing_new_ends_it(settings: Settings, thought: str) -> None:
    done = await solved(settings, forced(thinking(*[thought] * 9), least=90, waits=8, most=9000))
    assert done.output == "42"
    assert done.calls <= 3
    assert "'loop':" not in str([entry.result for entry in done.journal])


@pytest.mark.parametrize("nonsense", ["", "%$ no JSON"])
async def test_garbage_comes_to_an_end(settings: Settings, nonsense: str) -> None:
    done = await solved(settings, forced(Garbage(nonsense), least=100, waits=20))
    assert done.output == nonsense


async def test_a_model_that_fails_can_be_resumed(settings: Settings) -> None:
    broken = True

    def reply(request: ModelRequest) -> Turn | str:
        if last(request) == "Wait" and broken:
            return {"error": "overloaded"}
        return THOUGHTS[len(request.messages) % 3]

    options = corral.RunOptions(agent=forced(Answering(reply), least=100))
    async with corral.open(allowing(settings)) as c:
        failed = await c.run("Go.", options)
        assert failed.status == "failed"
        broken = False
        done = await c.resume(failed.run, options)
        assert done.status == "completed", done.error


def acting() -> corral.Agent:
    """A model that uses a tool when it is to answer."""

    @corral.tool(read_only=True)
    def look(topic: str) -> str:
        """Look a topic up."""
        return f"about {topic}"

    def reply(request: ModelRequest) -> Turn | str:
        if request.messages[-1].type == "tool":
            return "It is as I thought."
        if last(request) != "Final answer:":
            return THOUGHTS[len(request.messages) % 3]
        return {"text": "", "tool_calls": [{"name": "functions__look", "args": {"topic": "it"}}]}

    return forced(Answering(reply), look, least=9)


async def test_approvals_of_what_the_answer_takes(settings: Settings) -> None:
    assert await approved(settings, acting(), "look") == 1


@pytest.mark.parametrize("after", [1, 2, 4])
async def test_cut_off_and_resumed(settings: Settings, after: int) -> None:
    assert (await cut_and_resumed(settings, acting(), after)).output == "It is as I thought."


async def test_thoughts_do_not_reach_the_next_prompt(settings: Settings) -> None:
    model = thinking(*THOUGHTS)
    agent = forced(model, least=9)
    async with corral.open(allowing(settings)) as c:
        first = await solved_in(c, agent, "First.")
        second = await solved_in(c, agent, "Second.", first.result.thread)
    assert (first.calls, second.calls) == (3, 3)
    assert thoughts_in(model) == ["42", *THOUGHTS[:2]]


@pytest.mark.parametrize("options", [{"least": 9, "most": 8}, {"waits": 99}, {"unit": "lines"}])
async def test_options_that_do_not_fit(settings: Settings, options: dict[str, Any]) -> None:
    async with corral.open(settings) as c:
        with pytest.raises(corral.CorralError, match=next(iter(options))):
            await c.run("Go.", corral.RunOptions(agent=forced(Garbage(), **options)))
