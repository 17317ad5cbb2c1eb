"""Every pattern ends, within its bound, whatever its models do."""

from __future__ import annotations

import pytest

import corral
from corral.agents.patterns.registry import PATTERNS
from corral.runtime.config import Settings
from tests.agents.patterns.every import (
    CALLING,
    CASES,
    HOSTILE_LOOP,
    LEAD_STEPS,
    SANE_LOOP,
    SILENT,
    STEPS,
    pair,
    patterned,
    sane,
)
from tests.agents.patterns.support import Answering, allowing, replayed
from tests.runtime.agents import Ledger

pytestmark = pytest.mark.slow

every_pattern = pytest.mark.parametrize("name", PATTERNS)


async def _asked(c: corral.Corral, agent: corral.Agent) -> tuple[corral.RunResult, int]:
    """How a run of the agent ended, which replays, and how often models were asked in it."""
    result = await c.run("Go.", corral.RunOptions(agent=agent))
    await replayed(c, result.run, agent)
    journal = await c.records.trace(result.run)
    return result, sum(entry.kind == "model" for entry in journal)


def _is_clear(result: corral.RunResult) -> bool:
    """Whether a run ended with an answer, or says which limit or loop ended it."""
    if result.status == "completed":
        return True
    why = result.error or ""
    return result.status == "stopped" and ("step limit" in why or "round in circles" in why)


@every_pattern
@pytest.mark.parametrize("who", ["all", "workers"])
async def test_a_model_that_calls_nothing_ends_it_within_its_bound(
    settings: Settings, name: str, who: str
) -> None:
    async with corral.open(allowing(settings)) as c:
        for said, reply in SILENT.items():
            hostile = Answering(reply)
            lead = hostile if who == "all" else Answering(sane)
            agent = patterned(name, lead, *pair(hostile, *Ledger().tools()))
            result, calls = await _asked(c, agent)
            assert _is_clear(result), (said, result.status, result.error)
            assert calls <= CASES[name].bound(1 if who == "all" else SANE_LOOP), (said, calls)


@every_pattern
@pytest.mark.parametrize("who", ["all", "workers"])
async def test_a_model_that_only_calls_comes_to_a_clear_end(
    settings: Settings, name: str, who: str
) -> None:
    async with corral.open(allowing(settings)) as c:
        for said, reply in CALLING.items():
            hostile = Answering(reply)
            lead = hostile if who == "all" else Answering(sane)
            team = pair(hostile, *Ledger().tools(), limits=corral.RunLimits(max_steps=STEPS))
            limits = corral.RunLimits(max_steps=LEAD_STEPS)
            result, calls = await _asked(c, patterned(name, lead, *team, limits=limits))
            assert _is_clear(result), (said, result.status, result.error)
            assert calls <= CASES[name].bound(HOSTILE_LOOP), (said, calls)
