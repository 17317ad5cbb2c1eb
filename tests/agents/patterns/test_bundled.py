"""Every pattern gets to its end with the bundled model, which is very small."""

from __future__ import annotations

from typing import Any

import pytest

import corral
from corral.agents.patterns.registry import PATTERNS
from corral.runtime.config import Settings
from corral.runtime.models.local.model import LocalModel, LocalOptions
from corral.runtime.models.local.settings import LocalSettings
from tests.agents.patterns.every import CASES, HOSTILE_LOOP, LEAD_STEPS, STEPS, pair, patterned
from tests.agents.patterns.support import allowing, replayed, solved
from tests.runtime.agents import Ledger

pytestmark = pytest.mark.slow

TOKENS = 32
"""Of an answer at most: what a grammar holds may be cut off by it, which is no decision then."""


@pytest.fixture(scope="module")
def model() -> LocalModel:
    """One thread, for tests run beside each other. Freed with the process."""
    options = LocalOptions(context_window=2048, settings=LocalSettings(threads=1))
    return LocalModel(options=options)


@pytest.mark.parametrize("name", PATTERNS)
async def test_it_gets_to_an_end(settings: Settings, model: LocalModel, name: str) -> None:
    ledger = Ledger()
    given = {"sampling": {"max_tokens": TOKENS, "temperature": 0.0}}
    team = pair(model, limits=corral.RunLimits(max_steps=STEPS), **given)
    limits = corral.RunLimits(max_steps=LEAD_STEPS)
    agent = patterned(name, model, *team, functions=ledger.tools(), limits=limits, **given)
    async with corral.open(allowing(settings)) as c:
        result = await c.run("What is 2 plus 3?", corral.RunOptions(agent=agent))
        assert result.status == "completed" or "step limit" in str(result.error), result.error
        journal = await c.records.trace(result.run)
        calls = sum(entry.kind == "model" for entry in journal)
        assert 0 < calls <= CASES[name].bound(HOSTILE_LOOP)
        await replayed(c, result.run, agent)


async def test_a_supervisor_that_decides_gets_to_an_end(settings: Settings) -> None:
    few = {"max_tokens": 24}
    small: dict[str, Any] = {"servers": (), "facts": 0, "sampling": few}
    agent = corral.Agent(
        name="lead",
        pattern="supervisor",
        options={"routing": "decision", "rounds": 2},
        agents=(corral.Agent(name="alice", description="Knows colours.", **small),),
        **{**small, "sampling": {"max_tokens": 48}},
    )
    await solved(settings, agent, "What colour is the sky?")
