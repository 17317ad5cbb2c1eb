"""Who is served first: what a person waits for, with all that is asked for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import corral
from corral.runtime.config import Settings
from corral.runtime.models.contract import Chunk, ModelRequest
from tests.runtime.agents import Ledger, Turn, turn


class Asked(corral.ScriptedModel):
    """A scripted model that keeps the priorities of what it is asked."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        super().__init__(turns)
        self.priorities: list[int] = []

    def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Keep the priority, and answer as the script says."""
        self.priorities.append(request.priority)
        return super().stream(request)


async def test_a_sub_agent_is_served_as_the_run_is_and_runs_are_equal(settings: Settings) -> None:
    ask = {"name": "agents__helper", "args": {"task": "Think."}}
    model, other = Asked([{"tool_calls": [ask]}, turn("Done.")]), Asked([turn("Thought.")])
    helper = corral.Agent(name="helper", chat_model=other, servers=(), facts=0)
    agent = corral.Agent(chat_model=model, servers=(), facts=0, agents=(helper,))
    async with corral.open(settings) as c:
        waited = await c.run("Go.", corral.RunOptions(agent=agent, priority=1))
        await c.run("Go.", corral.RunOptions(agent=agent))
        assert (await c.replay(waited.run, corral.RunOptions(agent=agent))).status == "identical"
    assert (model.priorities, other.priorities) == ([1, 1, 0, 0], [1, 0])


async def test_a_resume_and_a_fork_are_served_as_is_said_then(settings: Settings) -> None:
    model = Asked([turn("Paying.", pay={"amount": 1}), turn("Paid.")])
    agent = corral.Agent(chat_model=model, functions=Ledger().tools(), servers=(), facts=0)
    async with corral.open(settings) as c:
        paused = await c.run("Go.", corral.RunOptions(agent=agent))
        await c.approve(paused.approvals[0].id)
        done = await c.resume(paused.run, corral.RunOptions(agent=agent, priority=1))
        last = (await c.records.trace(done.run))[-1].seq
        forked = corral.RunOptions(agent=agent, priority=2)
        await c.fork(done.run, corral.Fork(at=last), forked)
    assert model.priorities == [0, 1, 2]
