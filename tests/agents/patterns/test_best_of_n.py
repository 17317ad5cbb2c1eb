"""Best of n: who scores, what a score is worth, when it ends, and all that a run must survive."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import corral
from corral.agents.patterns.best_of_n import steps_of, together
from corral.agents.patterns.verifying import score_in
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


def trying(
    *said: str | dict[str, str], score: Callable[[ModelRequest], Turn | str] | None = None
) -> Answering:
    """A model that says the Nth text in try N, and judges as ``score`` says."""

    def reply(request: ModelRequest) -> Turn | str:
        if wants(request):
            assert score is not None, "it was asked for a score"
            return score(request)
        return said[request.sampling.seed or 0]

    return Answering(reply)


def best_of(model: Any, *functions: Any, agents: Any = (), **options: Any) -> corral.Agent:
    return answers(model, *functions, pattern="best_of_n", options=options, agents=agents)


def by_words(**scores: float) -> Callable[[ModelRequest], Turn]:
    """The score of the word that the request holds."""

    def score(request: ModelRequest) -> Turn:
        found = next((s for word, s in scores.items() if f"\n{word}\n" in text_of(request)), 0)
        return deciding(score=found)

    return score


@corral.tool(read_only=True)
def check(answer: str, task: str) -> bool:
    """Whether an answer is right."""
    return answer == "right" and task == "Go."


async def test_the_best_score_wins(settings: Settings) -> None:
    model = trying("fair", "best", "poor", score=by_words(fair=0.5, best=0.9, poor=0.1))
    done = await solved(settings, best_of(model, samples=3))
    assert (done.output, done.calls) == ("best", 6)


async def test_of_equal_scores_the_first_wins_and_equal_answers_are_scored_once(
    settings: Settings,
) -> None:
    model = trying("one", "two", "one", "two", score=by_words(one=0.5, two=0.5))
    done = await solved(settings, best_of(model))
    assert (done.output, done.calls) == ("one", 6)


async def test_it_ends_when_a_score_is_enough(settings: Settings) -> None:
    model = trying("poor", "good", "never", score=by_words(poor=0.1, good=0.8))
    done = await solved(settings, best_of(model, samples=3, parallel=1, enough=0.8))
    assert (done.output, done.calls) == ("good", 4)


async def test_a_function_verifies(settings: Settings) -> None:
    agent = best_of(trying("wrong", "right"), check, samples=2, verifier="functions__check")
    done = await solved(settings, agent)
    assert (done.output, done.calls) == ("right", 2)
    assert [entry.name for entry in done.journal if entry.kind == "tool"] == [
        "functions__check"
    ] * 2


async def test_a_verifier_that_says_no_to_all_is_no_loop(settings: Settings) -> None:
    model = trying(*(f"wrong {number}" for number in range(20)))
    done = await solved(settings, best_of(model, check, samples=20, verifier="functions__check"))
    assert done.output == "wrong 0"
    assert "'loop':" not in str([entry.result for entry in done.journal])


async def test_a_verifier_that_breaks_passes_nothing(settings: Settings) -> None:
    @corral.tool(read_only=True)
    def strict(answer: str) -> float:
        """A score."""
        if answer == "crash":
            raise ValueError("broken")
        return 0.1

    agent = best_of(trying("crash", "fine"), strict, samples=2, verifier="functions__strict")
    assert (await solved(settings, agent)).output == "fine"


@pytest.mark.parametrize("verifier", ["functions__gone", "functions__other"])
async def test_a_verifier_that_is_none_fails_the_run(settings: Settings, verifier: str) -> None:
    @corral.tool(read_only=True)
    def other(text: str) -> float:
        """A score."""
        return 1.0

    agent = best_of(trying("a", "b"), other, samples=2, verifier=verifier)
    async with corral.open(allowing(settings)) as c:
        failed = await c.run("Go.", corral.RunOptions(agent=agent))
    assert (failed.status, verifier in str(failed.error)) == ("failed", True)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("true", 1),
        ("False", 0),
        ("0.25", 0.25),
        ("7", 1),
        ("-1", 0),
        ('{"score": 0.5, "why": "x"}', 0.5),
        ('{"result": true}', 1),
        ("all tests passed", 0),
        ("[1]", 0),
        ("NaN", 0),
        ("9" * 400, 1),
        ("[" * 100_000, 0),
        ("", 0),
    ],
)
def test_scores_of_verifiers(text: str, score: float) -> None:
    assert score_in(text) == score


@pytest.mark.parametrize(("aggregate", "best"), [("min", "b1\nb2"), ("mean", "a1\na2")])
async def test_steps_are_scored(settings: Settings, aggregate: str, best: str) -> None:
    def score(request: ModelRequest) -> Turn | str:
        steps = [0.2, 1.0] if "a1" in text_of(request) else [0.5, 0.5]
        return deciding(answer=steps)

    model = trying("a1\na2", "b1\nb2", score=score)
    agent = best_of(model, samples=2, scores="steps", aggregate=aggregate)
    assert (await solved(settings, agent)).output == best


def test_scores_of_steps_together() -> None:
    scores = [0.5, 0.5, 1.0]
    assert together(scores, "min") == 0.5
    assert together(scores, "product") == 0.25
    assert together(scores, "mean") == pytest.approx(2 / 3)
    assert len(steps_of("\n\n".join(map(str, range(100))))) == 20


async def test_a_critic_of_the_team_judges(settings: Settings) -> None:
    critic = answers(Answering(by_words(fair=0.1, best=0.9)), name="critic")
    agent = best_of(trying("fair", "best"), agents=(critic,), samples=2, critic="critic")
    done = await solved(settings, agent)
    assert (done.output, done.calls) == ("best", 4)


async def test_a_critic_that_fails_leaves_the_first(settings: Settings) -> None:
    critic = answers(Answering(lambda _: {"error": "overloaded"}), name="critic")
    agent = best_of(trying("one", "two"), agents=(critic,), samples=2, critic="critic")
    assert (await solved(settings, agent)).output == "one"


@pytest.mark.parametrize("nonsense", ["", "%$ no JSON", '{"score": 7}', json.dumps({"answer": 1})])
async def test_scores_that_cannot_be_read_leave_the_first(
    settings: Settings, nonsense: str
) -> None:
    model = trying("one", "two", score=lambda _: nonsense)
    assert (await solved(settings, best_of(model, samples=2))).output == "one"
    assert (await solved(settings, best_of(Garbage(nonsense)))).output == nonsense


async def test_a_try_that_fails_is_not_the_best(settings: Settings) -> None:
    model = trying({"error": "overloaded"}, "two", score=by_words(two=0))
    assert (await solved(settings, best_of(model, samples=2))).output == "two"


async def test_a_verifier_that_scores_no_steps_is_refused(settings: Settings) -> None:
    agent = best_of(trying("one"), check, verifier="functions__check", scores="steps")
    async with corral.open(settings) as c:
        with pytest.raises(corral.CorralError, match="whole answers"):
            await c.run("Go.", corral.RunOptions(agent=agent))


def asking_critic() -> corral.Agent:
    """A critic that looks something up before it judges."""

    @corral.tool(read_only=True)
    def look(topic: str) -> str:
        """Look a topic up."""
        return f"about {topic}"

    def reply(request: ModelRequest) -> Turn | str:
        if request.messages[-1].type == "tool":
            return by_words(fair=0.1, best=0.9)(request)
        return {
            "text": "",
            "tool_calls": [{"name": "functions__look", "args": {"topic": "it"}}],
        }

    critic = answers(Answering(reply), look, name="critic")
    return best_of(trying("fair", "best"), agents=(critic,), samples=2, critic="critic")


async def test_approvals_inside_of_a_critic(settings: Settings) -> None:
    assert await approved(settings, asking_critic(), "look") == 2


@pytest.mark.parametrize("after", [1, 3, 5])
async def test_cut_off_and_resumed(settings: Settings, after: int) -> None:
    assert (await cut_and_resumed(settings, asking_critic(), after)).output == "best"


async def test_scores_do_not_reach_the_next_prompt(settings: Settings) -> None:
    def score(request: ModelRequest) -> Turn:
        wanted = "two" if "Second." in text_of(request) else "one"
        return by_words(**{wanted: 1.0})(request)

    agent = best_of(trying("one", "two", score=score), samples=2)
    async with corral.open(allowing(settings)) as c:
        first = await solved_in(c, agent, "First.")
        second = await solved_in(c, agent, "Second.", first.result.thread)
    assert (first.output, second.output, second.calls) == ("one", "two", 4)
