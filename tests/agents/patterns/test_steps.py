"""How many model calls an agent with a pattern may make: as many as its options say."""

from __future__ import annotations

import pytest

import corral
from corral.runtime.config import Settings
from tests.agents.patterns.support import answers, deciding, solved
from tests.runtime.agents import turn

ROUNDS = 10


def never_content(limits: corral.RunLimits | None) -> corral.Agent:
    """An agent that reflects for all of its rounds: a draft and a critique each."""
    rounds = [
        (turn(f"Draft {number}."), deciding(score=number / 100, points=[f"More of {number}."]))
        for number in range(ROUNDS)
    ]
    script = [one for pair in rounds for one in pair]
    return answers(script, pattern="reflection", options={"rounds": ROUNDS}, limits=limits)


async def test_a_pattern_may_make_as_many_calls_as_its_options_say(settings: Settings) -> None:
    done = await solved(settings, never_content(None))
    assert (done.calls, done.output) == (2 * ROUNDS, f"Draft {ROUNDS - 1}.")


@pytest.mark.parametrize("own", [True, False])
async def test_a_step_limit_that_somebody_has_set_holds(settings: Settings, *, own: bool) -> None:
    limits = corral.RunLimits(max_steps=3)
    everywhere = settings if own else settings.model_copy(update={"limits": limits})
    async with corral.open(everywhere) as c:
        agent = never_content(limits if own else None)
        result = await c.run("Go.", corral.RunOptions(agent=agent))
    assert (result.status, result.steps) == ("stopped", 3)
