"""Checks inside of a team: one that is there to stop the run does, any other fails one task."""

from __future__ import annotations

from typing import Any

import pytest

import corral
from corral.runtime.config import Settings
from corral.runtime.models.contract import ModelRequest
from tests.agents.patterns.support import Answering, allowing, answers, replayed, solved
from tests.agents.patterns.teams import DONE, calling, lead, results, task, worker
from tests.runtime.agents import Turn


def swearing(text: str) -> str | None:
    """Refuse a word."""
    return "be polite" if "darn" in text else None


def raising(text: str) -> None:
    """Break."""
    raise ZeroDivisionError(f"by {len(text)}")


CHECKS = {
    "an answer": corral.check(swearing, on="output", on_fail="reask", retries=1),
    "a check that broke": corral.check(raising, on="output", on_fail="reask"),
    "what cannot be mended": corral.check(lambda _: False, on="output", on_fail="fix"),
    "a task": corral.check(lambda _: False, on="input", on_fail="fix"),
}


def coordinator() -> Answering:
    def reply(request: ModelRequest) -> Turn:
        asked = calling(task("alice", "Do a."), task("bob", "Do b."))
        return DONE if results(request) else asked

    return Answering(reply)


def team(check: corral.Check) -> tuple[corral.Agent, corral.Agent]:
    return worker("alice", "Oh, darn.", checks=(check,)), worker("bob")


@pytest.mark.parametrize("pattern", ["supervisor", "react"])
@pytest.mark.parametrize("refused", CHECKS)
async def test_what_a_check_refuses_in_a_worker_is_a_result(
    settings: Settings, refused: str, pattern: str
) -> None:
    model = coordinator()
    done = await solved(settings, lead(model, *team(CHECKS[refused]), pattern=pattern))
    assert done.output == "All done."
    first, second = results(model.asked[1])
    assert "The agent alice could not go on." in first
    assert "was refused" in first
    assert "darn" not in first
    assert second == "bob is done."


@pytest.mark.parametrize("check", [swearing, raising])
@pytest.mark.parametrize("on", ["input", "output"])
async def test_a_check_that_stops_the_run_does_so_at_any_depth(
    settings: Settings, check: Any, on: Any
) -> None:
    alice, bob = team(corral.check(check, on=on, on_fail="block"))
    middle = lead(Answering(lambda _: calling(task("alice", "Oh, darn."))), alice, name="middle")
    agent = lead(Answering(lambda _: calling(task("middle", "Go."))), middle, bob)
    async with corral.open(allowing(settings)) as c:
        ended = await c.run("Go.", corral.RunOptions(agent=agent))
        assert ended.status == "stopped"
        assert "was refused" in str(ended.error)
        await replayed(c, ended.run, agent)


async def test_a_try_that_a_check_refuses_costs_this_try_alone(settings: Settings) -> None:
    model = Answering(lambda request: "darn" if request.sampling.seed == 1 else "7")
    check = corral.check(swearing, on="output", on_fail="reask", retries=1)
    options = {"samples": 3, "extract": "whole", "early_stop": False}
    agent = answers(model, pattern="self_consistency", options=options, checks=(check,))
    assert (await solved(settings, agent)).output == "7"
