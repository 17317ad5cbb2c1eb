"""A supervisor with a worker that reflects: two patterns, one run, and the events of both levels.

python examples/patterns.py
"""

from __future__ import annotations

import asyncio

import corral
from corral.runtime.events import AgentFinished, AgentStarted, RunFinished


def agent(name: str, *turns: dict[str, object], **fields: object) -> corral.Agent:
    """An agent whose model answers from a script; leave ``chat_model`` out for a real one."""
    model = corral.ScriptedModel(turns)
    return corral.Agent(name=name, servers=(), facts=0, chat_model=model, **fields)


critic = agent(
    "critic",
    {"text": '{"score": 0.4, "points": ["Say what the ship is for."]}'},
    {"text": '{"score": 0.95}'},
)
author = agent(
    "author",
    {"text": "The ship is big."},
    {"text": "The ship carries grain to the islands."},
    description="Writes a sentence.",
    pattern="reflection",
    options={"critic": "critic", "rounds": 3, "threshold": 0.9},
    agents=(critic,),
)
lead = agent(
    "lead",
    {"tool_calls": [{"name": "agents__author", "args": {"task": "A sentence about the ship."}}]},
    {"text": "Here it is: The ship carries grain to the islands."},
    pattern="supervisor",
    agents=(author,),
)


async def main() -> None:
    async with corral.open() as c:
        run = ""
        async for event in c.stream("Write about the ship.", corral.RunOptions(agent=lead)):
            match event:
                case AgentStarted() | AgentFinished():
                    print(f"{event.type}: {' > '.join((*event.agents, event.name))}")
                case RunFinished(result):
                    run = result.run
                    print(f"{result.status} after {result.steps} model calls: {result.output}")
        replay = await c.replay(run, corral.RunOptions(agent=lead))
        print(f"replay: {replay.status}")


if __name__ == "__main__":
    asyncio.run(main())
