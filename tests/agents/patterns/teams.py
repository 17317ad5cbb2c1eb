"""What the tests of teams share: calls of workers, and workers that can be watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import corral
from corral.runtime.models.contract import Chunk, ModelRequest
from tests.agents.patterns.support import Answering, answers, text_of
from tests.runtime.agents import Turn, turn


def task(name: str, text: str) -> dict[str, Any]:
    """The call that gives a worker a task."""
    return {"name": f"agents__{name}", "args": {"task": text}}


def hand(name: str, message: str = "Go on.") -> dict[str, Any]:
    """The call that lets somebody take over."""
    return {"name": f"handoff__{name}", "args": {"message": message}}


def function(name: str, **args: Any) -> dict[str, Any]:
    """The call of a function."""
    return {"name": f"functions__{name}", "args": args}


def calling(*calls: dict[str, Any], text: str = "") -> Turn:
    """A turn that makes these calls at once."""
    return {"text": text, "tool_calls": list(calls)}


def worker(
    name: str, reply: Callable[[ModelRequest], Turn | str] | str = "", **fields: Any
) -> corral.Agent:
    """A sub-agent that answers by a function of the request, or always the same."""
    said = reply or f"{name} is done."
    model = Answering((lambda _: said) if isinstance(said, str) else said)
    return answers(model, *fields.pop("functions", ()), name=name, **fields)


def lead(turns: list[Turn] | Answering, *team: corral.Agent, **fields: Any) -> corral.Agent:
    """A supervisor of a team; keywords that are options of it are."""
    names = ("routing", "handoffs", "answer", "history", "parallel", "rounds", "tasks", "calls")
    options = {name: fields.pop(name) for name in names if name in fields}
    given = {"name": "lead", "pattern": "supervisor", "options": options, **fields}
    return answers(turns, agents=team, **given)


def results(request: ModelRequest) -> list[str]:
    """The results of tools that a request shows."""
    return [str(message.text) for message in request.messages if message.type == "tool"]


def heard(agent: corral.Agent, index: int = 0) -> str:
    """What a worker's model was asked, in words."""
    model: Any = agent.chat_model
    return text_of(model.asked[index])


@dataclass
class Gate:
    """A door for models at work: they wait in it until as many as expected are there.

    ``most`` is how many were ever in it at once.
    """

    expected: int
    inside: int = 0
    most: int = 0
    _full: asyncio.Event = field(default_factory=asyncio.Event)

    async def passing(self) -> None:
        """Wait until so many are inside, and let others see who is."""
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.inside >= self.expected:
            self._full.set()
        await asyncio.wait_for(self._full.wait(), 60)
        for _ in range(50):  # whoever could come in beside, comes in now
            await asyncio.sleep(0)
        self.inside -= 1


@dataclass
class Gated(Answering):
    """A model that passes a gate before each of its answers."""

    gate: Gate = field(default_factory=lambda: Gate(1))

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Pass, and answer."""
        await self.gate.passing()
        async for chunk in super().stream(request):
            yield chunk


def gated(name: str, gate: Gate) -> corral.Agent:
    """A worker whose model passes a gate."""
    return answers(Gated(lambda _: f"{name} is done.", gate=gate), name=name)


DONE = turn("All done.")
