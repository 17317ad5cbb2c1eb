"""Reflection: what ends it, which draft it keeps, and that it survives whatever models give."""

from __future__ import annotations

from typing import Any

import pytest

import corral
from corral.runtime.config import Settings
from corral.runtime.models.contract import ModelRequest
from tests.agents.patterns.support import (
    Answering,
    Garbage,
    answers,
    approved,
    cut_and_resumed,
    deciding,
    solved,
    solved_in,
    text_of,
)
from tests.runtime.agents import Turn, turn


def critique(score: float, *points: str) -> Turn:
    return deciding(score=score, points=list(points))


def reflecting(model: Any, *functions: Any, **fields: Any) -> corral.Agent:
    options = fields.pop("options", {})
    return answers(model, *functions, pattern="reflection", options=options, **fields)


async def test_a_draft_is_mended_until_the_critic_is_content(settings: Settings) -> None:
    script = [
        turn("Draft one."),
        critique(0.4, "Too short."),
        turn("Draft two."),
        critique(0.95),
    ]
    done = await solved(settings, reflecting(script))
    assert (done.output, done.calls, done.aloud) == ("Draft two.", 4, [])
    revised = str(done.journal[3].request)
    assert "Draft one." in revised
    assert "Too short." in revised


async def test_the_best_draft_is_kept_and_not_the_last(settings: Settings) -> None:
    script = [
        turn("Fair."),
        critique(0.5),
        turn("Best."),
        critique(0.8),
        turn("As good as the best."),
        critique(0.8),
        turn("Worst."),
        critique(0.1),
    ]
    done = await solved(settings, reflecting(script, options={"rounds": 4}))
    assert done.output == "Best."


@pytest.mark.parametrize(("rounds", "calls"), [(1, 2), (3, 6)])
async def test_it_ends_after_its_rounds(settings: Settings, rounds: int, calls: int) -> None:
    script = [step for n in range(rounds) for step in (turn(f"Draft {n}."), critique(0.1))]
    done = await solved(settings, reflecting(script, options={"rounds": rounds}))
    assert (done.output, done.calls) == ("Draft 0.", calls)


async def test_it_ends_when_the_score_stops_improving(settings: Settings) -> None:
    script = [turn("One."), critique(0.5), turn("Two."), critique(0.5), turn("Three."), critique(0)]
    done = await solved(settings, reflecting(script, options={"rounds": 9, "patience": 2}))
    assert (done.output, done.calls) == ("One.", 6)


async def test_a_critique_that_cannot_be_read_ends_it(settings: Settings) -> None:
    done = await solved(settings, reflecting(Garbage(draft="Draft.")))
    assert (done.output, done.calls) == ("Draft.", 4)  # the critique was asked for three times


async def test_an_unread_critique_does_not_beat_one_with_a_score(settings: Settings) -> None:
    garbage = [turn("no JSON")] * 3
    script = [turn("Scored."), critique(0.2), turn("Not scored."), *garbage]
    assert (await solved(settings, reflecting(script))).output == "Scored."


@pytest.mark.parametrize("nonsense", ["", "{}", '{"score": 7}', '{"score": NaN, "points": 1}'])
async def test_nonsense_in_every_answer_leads_to_an_end(settings: Settings, nonsense: str) -> None:
    done = await solved(settings, reflecting(Garbage(nonsense)))
    assert done.output == nonsense


async def test_a_critic_and_a_generator_of_their_own(settings: Settings) -> None:
    critic = Answering(
        lambda r: critique(1.0 if "The second." in text_of(r) else 0.3, "Say second.")
    )
    writer = Answering(lambda r: "The second." if "Say second." in text_of(r) else "The first.")
    agent = reflecting(
        [],
        agents=(answers(critic, name="critic"), answers(writer, name="writer")),
        options={"critic": "critic", "generator": "writer", "criteria": "It says second."},
    )
    done = await solved(settings, agent, "Count to two.")
    assert done.output == "The second."
    assert all("Count to two." in text_of(request) for request in critic.asked + writer.asked)
    assert "It says second." in text_of(critic.asked[0])


def failing(_request: ModelRequest) -> Turn:
    return {"error": "It is down."}


async def test_a_generator_that_fails_is_stood_in_for(settings: Settings) -> None:
    writer = answers(Answering(failing), name="writer")
    agent = reflecting(
        [turn("My own draft."), critique(1.0)], agents=(writer,), options={"generator": "writer"}
    )
    assert (await solved(settings, agent)).output == "My own draft."


async def test_a_critic_that_fails_ends_it(settings: Settings) -> None:
    critic = answers(Answering(failing), name="critic")
    agent = reflecting([turn("Draft.")], agents=(critic,), options={"critic": "critic"})
    assert (await solved(settings, agent)).output == "Draft."


@corral.tool(read_only=True)
def look(at: str) -> str:
    """Look at something."""
    return f"seen {at}"


def with_tools() -> list[Turn]:
    return [
        turn("I look.", look={"at": "a"}),
        turn("Draft one."),
        critique(0.4, "Look again."),
        turn("I look.", look={"at": "b"}),
        turn("Draft two."),
        critique(0.95),
    ]


@pytest.mark.parametrize("after", range(1, 8))
async def test_cut_off_anywhere_and_resumed(settings: Settings, after: int) -> None:
    done = await cut_and_resumed(settings, reflecting(with_tools(), look), after)
    assert done.output == "Draft two."


def pay(amount: int) -> str:
    """Pay an amount."""
    return f"paid {amount}"


async def test_an_approval_inside_of_the_generator(settings: Settings) -> None:
    writer = answers(
        Answering(lambda r: turn("Paid.") if "paid 3" in text_of(r) else turn(pay={"amount": 3})),
        pay,
        name="writer",
    )
    agent = reflecting([critique(1.0)], agents=(writer,), options={"generator": "writer"})
    assert await approved(settings, agent, "pay") == 1


async def test_nothing_of_a_prompt_leaks_into_the_next(settings: Settings) -> None:
    def reply(request: ModelRequest) -> Turn:
        first = "Second?" not in text_of(request)
        if request.output is None:
            return turn("First answer." if first else "Second answer.")
        return critique(0.8 if first else 0.1, "Do better.")

    model = Answering(reply)
    agent = reflecting(model, options={"rounds": 1})
    async with corral.open(settings) as c:
        first = await solved_in(c, agent, "First?")
        second = await solved_in(c, agent, "Second?", thread=first.result.thread)
    assert (first.output, second.output) == ("First answer.", "Second answer.")
    drafted = next(r for r in model.asked if "Second?" in text_of(r))
    assert "Do better." not in text_of(drafted)


async def test_the_same_critique_again_and_again_is_no_loop(settings: Settings) -> None:
    """Also in a thread that goes on, whose prompts hold earlier answers."""

    def reply(request: ModelRequest) -> Turn | str:
        if request.output is not None:
            return critique(0.3, "It could be a little more precise, I think.")
        before = str(request.messages[-1].text)
        return f"The draft that was given before, and now {'*' * (before.count('*') + 1)}"

    agent = reflecting(Answering(reply), options={"rounds": 6})
    async with corral.open(settings) as c:
        thread = None
        for _ in range(2):
            done = await solved_in(c, agent, "Write.", thread=thread)
            thread = done.result.thread
            assert done.calls == 12


async def test_the_same_draft_again_ends_it(settings: Settings) -> None:
    def reply(request: ModelRequest) -> Turn | str:
        return critique(0.3) if request.output is not None else "The same draft."

    done = await solved(settings, reflecting(Answering(reply), options={"rounds": 20}))
    assert (done.output, done.calls) == ("The same draft.", 3)


async def test_an_agent_that_is_not_there_is_refused(settings: Settings) -> None:
    agent = reflecting([], options={"critic": "nobody"})
    async with corral.open(settings) as c:
        with pytest.raises(corral.CorralError, match="'nobody'"):
            await c.run("Go.", corral.RunOptions(agent=agent))
