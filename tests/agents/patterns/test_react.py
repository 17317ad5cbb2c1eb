"""ReAct: parallel calls, wrong arguments, and an answer that is checked before it counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import corral
from corral.runtime.config import Settings
from corral.runtime.events import ToolFinished
from corral.runtime.models.contract import ModelRequest
from tests.agents.patterns.support import (
    Answering,
    answers,
    approved,
    cut_and_resumed,
    deciding,
    solved,
    solved_in,
    text_of,
    wants,
)
from tests.runtime.agents import Turn, turn


def right() -> Turn:
    return deciding(is_right=True)


def wrong(fault: str = "The number is missing.") -> Turn:
    return deciding(is_right=False, fault=fault)


def verified(model: Any, *functions: Any, rounds: int = 2, **fields: Any) -> corral.Agent:
    options = {"verify": rounds, **fields.pop("options", {})}
    return answers(model, *functions, options=options, **fields)


@corral.tool(read_only=True)
def look(at: str) -> str:
    """Look at something."""
    return f"seen {at}"


async def test_calls_of_one_turn_are_made_at_the_same_time(settings: Settings) -> None:
    together = asyncio.Barrier(3)

    @corral.tool(read_only=True)
    async def meet(name: str) -> str:
        """Wait for the others."""
        await together.wait()
        return f"met {name}"

    calls = [{"name": "functions__meet", "args": {"name": name}} for name in "abc"]
    done = await solved(settings, answers([{"tool_calls": calls}, turn("All met.")], meet))
    assert done.output == "All met."
    told = [event.text for event in done.events if isinstance(event, ToolFinished)]
    assert sorted(told) == ["met a", "met b", "met c"]


async def test_wrong_arguments_come_back_with_what_is_wrong(settings: Settings) -> None:
    script = [turn(look={"where": 7}), turn(look={"at": "it"}), turn("Seen.")]
    done = await solved(settings, answers(script, look))
    told = [event for event in done.events if isinstance(event, ToolFinished)]
    assert [event.is_error for event in told] == [True, False]
    assert "'at' is a required property" in told[0].text
    assert "'at' is a required property" in str(done.journal)


async def test_a_right_answer_is_checked_once(settings: Settings) -> None:
    done = await solved(settings, verified([turn("It is 42."), right()]))
    assert (done.output, done.aloud) == ("It is 42.", ["It is 42."])


async def test_a_fault_makes_the_loop_go_on(settings: Settings) -> None:
    script = [
        turn("It is."),
        wrong(),
        turn("I look.", look={"at": "it"}),
        turn("It is 42."),
        right(),
    ]
    done = await solved(settings, verified(script, look))
    assert done.output == "It is 42."
    checked = [str(e.request) for e in done.journal if e.kind == "model"]
    assert "The number is missing." in checked[2]
    assert "seen it" in checked[4]


async def test_it_ends_after_its_checks_with_the_last_answer(settings: Settings) -> None:
    script = [turn("One."), wrong(), turn("Two."), wrong(), turn("Three.")]
    done = await solved(settings, verified(script))
    assert (done.output, done.calls) == ("Three.", 5)


async def test_a_model_that_stands_by_its_answer_is_not_asked_again(settings: Settings) -> None:
    done = await solved(settings, verified([turn("One."), wrong(), turn("One.")], rounds=5))
    assert (done.output, done.calls) == ("One.", 3)


async def test_an_empty_answer_to_a_fault_leaves_the_one_before(settings: Settings) -> None:
    script = [turn("One."), wrong(), {"text": "", "tool_calls": []}, right()]
    assert (await solved(settings, verified(script))).output == "One."


@pytest.mark.parametrize("nonsense", ["", "no JSON", "{}", '{"is_right": "perhaps"}'])
async def test_a_check_that_cannot_be_read_finds_nothing(settings: Settings, nonsense: str) -> None:
    script = [turn("One.")] + [{"text": nonsense, "tool_calls": []}] * 3
    assert (await solved(settings, verified(script))).output == "One."


async def test_a_fault_without_words_is_one(settings: Settings) -> None:
    done = await solved(settings, verified([turn("One."), wrong(""), turn("Two."), right()]))
    assert done.output == "Two."


async def test_a_checker_of_its_own(settings: Settings) -> None:
    checker = Answering(lambda r: right() if "42" in text_of(r) else wrong())
    agent = verified(
        [turn("It is."), turn("It is 42.")],
        agents=(answers(checker, name="checker"),),
        options={"verifier": "checker"},
    )
    assert (await solved(settings, agent, "What is it?")).output == "It is 42."
    assert "What is it?" in text_of(checker.asked[0])


async def test_a_checker_that_fails_finds_nothing(settings: Settings) -> None:
    checker = answers(Answering(lambda _: {"error": "It is down."}), name="checker")
    agent = verified([turn("One.")], agents=(checker,), options={"verifier": "checker"})
    assert (await solved(settings, agent)).output == "One."


async def test_an_answer_of_a_type_is_checked_when_it_fits(settings: Settings) -> None:
    script = [turn("no JSON"), turn('{"n": 1}'), wrong(), turn("[]"), turn('{"n": 2}'), right()]
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert (await solved(settings, verified(script, returns=schema))).output == '{"n":2}'


def checking(request: ModelRequest) -> Turn | str:
    if wants(request) == "Verdict":
        return right() if "seen b" in text_of(request) else wrong("Look at b.")
    if "Look at b." in text_of(request):
        return "Seen b." if "seen b" in text_of(request) else turn(look={"at": "b"})
    return "Seen a." if "seen a" in text_of(request) else turn(look={"at": "a"})


@pytest.mark.parametrize("after", range(1, 8))
async def test_cut_off_anywhere_and_resumed(settings: Settings, after: int) -> None:
    done = await cut_and_resumed(settings, verified(Answering(checking), look), after)
    assert done.output == "Seen b."


async def test_an_approval_inside_of_a_checker(settings: Settings) -> None:
    def read(name: str) -> str:
        """Read something private."""
        return f"read {name}"

    def check(request: ModelRequest) -> Turn:
        return right() if "read it" in text_of(request) else turn(read={"name": "it"})

    checker = answers(Answering(check), read, name="checker")
    agent = verified([turn("One.")], agents=(checker,), options={"verifier": "checker"})
    assert await approved(settings, agent, "read") == 1


async def test_every_prompt_of_a_thread_is_checked_anew(settings: Settings) -> None:
    def reply(request: ModelRequest) -> Turn | str:
        if wants(request) == "Verdict":
            return wrong()
        return f"Answer {sum(m.type == 'human' for m in request.messages)}."

    agent = verified(Answering(reply), rounds=1)
    async with corral.open(settings) as c:
        first = await solved_in(c, agent, "First.")
        second = await solved_in(c, agent, "Second.", thread=first.result.thread)
    assert (first.output, second.output) == ("Answer 2.", "Answer 4.")
    assert (first.calls, second.calls) == (3, 3)
