"""What a step costs in a thread with remembered facts: as much late in a run as early."""

from __future__ import annotations

import sys

import corral
from corral.memory.store import Source
from corral.runtime.config import Settings
from tests.runtime.test_cost import EARLY, LATE, STEPS, Counting


async def test_a_late_step_with_facts_in_view_does_the_work_of_an_early_one(
    settings: Settings,
) -> None:
    @corral.tool(read_only=True)
    async def count(number: int) -> int:
        """The number itself."""
        return number

    model = Counting()
    agent = corral.Agent(functions=(count,), servers=(), chat_model=model, facts=3)
    limits = corral.RunLimits(max_steps=STEPS + 1)
    async with corral.open(settings) as c:
        source = Source(agent.name, "thread", "run")
        for number in range(3):
            await c.memory.remember(f"The user counts to {number}.", source, f"key-{number}")
        try:
            prompt = "Count to what the user counts to."
            result = await c.run(prompt, corral.RunOptions(agent=agent, limits=limits))
        finally:
            sys.setprofile(None)
        trace = await c.records.trace(result.run)
    assert (result.status, result.output) == ("completed", "Done."), result.error
    (found,) = [entry.result for entry in trace if entry.kind == "retrieval"]
    assert isinstance(found, dict)
    assert len(found["facts"]) == 3
    early, late = (sum(model.calls[turn] for turn in turns) for turns in (EARLY, LATE))
    assert 0 < late <= 1.08 * early
