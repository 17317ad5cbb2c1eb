"""Corral with everything on, as a side of ``overhead``: journal and checkpoints in a SQLite file,
a policy file, budgets, labels of provenance, redaction, the loop guard and the trace.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

from langchain_core.messages import AIMessage

import corral
from bench._overhead_sides import PROMPT, STEPS, Side, Tool, turn
from corral.agents.programs import build_program
from corral.agents.services import AgentServices, Shared
from corral.runtime.config import Settings, load_settings
from corral.runtime.models.contract import Chunk, FinalChunk, ModelRequest, Usage

BUDGET = {"run": {"tool_calls": 10**6, "tokens": 10**9}}

Answers = Callable[[int], AIMessage]
"""The model's answer by its number, from 0."""


class Scripted:
    """A model that gives each answer after ``delay`` seconds; its window is never full."""

    name = "scripted"
    context_window = 10**9

    def __init__(self, answers: Answers, delay: float = 0.0) -> None:
        self._answers = answers
        self._delay = delay

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        if self._delay:
            await asyncio.sleep(self._delay)
        message = self._answers(request.turn)
        reason: Literal["tool_calls", "stop"] = "tool_calls" if message.tool_calls else "stop"
        yield FinalChunk(message, Usage(10, 10), reason)

    def check_complete(self, turns: int) -> None:
        del turns

    async def aclose(self) -> None:
        return None


def settings_in(folder: Path) -> Settings:
    """Everything on, in a folder."""
    policy = folder / "policy.toml"
    policy.write_text('[[rules]]\ntool = "*"\naction = "allow"\n', "utf-8")
    values = {"home": folder / "home", "workspace": folder, "policy": str(policy)}
    return load_settings({**values, "budgets": BUDGET})


class CorralSide(Side):
    """Corral. A tool that is marked ``read_only`` may be called again after a crash.

    The start of a call of one that is not marked is flushed to the disk before it.
    """

    def __init__(self, *, read_only: bool) -> None:
        self._read_only = read_only
        self._stack = AsyncExitStack()

    def load(self) -> None:
        """Its imports are those of this module."""

    async def start(self, folder: Path) -> None:
        opening = corral.open(settings_in(folder))
        self._corral = await self._stack.enter_async_context(opening)
        database = self._corral.records.database
        self._shared = Shared(self._corral.settings, self._corral.memory, database)

    async def stop(self) -> None:
        await self._stack.aclose()

    def make(self, tools: Sequence[Tool]) -> corral.Agent:
        """An agent, and what is built for each of its runs."""
        if self._read_only:
            for tool in tools:
                corral.tool(read_only=True, open_world=False)(tool)
        name = f"functions__{tools[0].__name__}"

        def answer(number: int) -> AIMessage:
            text, call = turn(number, name)
            return AIMessage(text, tool_calls=[call] if call else [])

        agent = corral.Agent(
            functions=tuple(tools),
            servers=(),
            chat_model=Scripted(answer),
            limits=corral.RunLimits(max_steps=STEPS + 1),
        )
        services = AgentServices(self._shared, agent, Scripted.name, build_program)
        assert services.tools is not None
        build_program(services).graph().compile()
        return agent

    async def run(self, agent: corral.Agent) -> str:
        result = await self._corral.run(PROMPT, corral.RunOptions(agent=agent))
        if result.status != "completed":
            raise RuntimeError(f"the run is {result.status}: {result.error} {result.approvals}")
        return result.output


async def supervised(workers: int, delay: float) -> float:
    """Seconds of a supervisor's run whose workers work in parallel.

    Every model answers after ``delay``, so the longest chain is the supervisor's call, a worker's
    answer, and the supervisor's answer: three delays.
    """

    def delegate(number: int) -> AIMessage:
        if number:
            return AIMessage("done")
        tasks = ({"name": f"agents__w{n}", "args": {"task": "Work."}, "id": f"c{n}"} for n in team)
        return AIMessage("", tool_calls=list(tasks))

    team = range(workers)
    members = tuple(
        corral.Agent(name=f"w{n}", servers=(), chat_model=Scripted(_worked, delay)) for n in team
    )
    agent = corral.Agent(
        name="supervisor", servers=(), agents=members, chat_model=Scripted(delegate, delay)
    )
    with tempfile.TemporaryDirectory() as name:
        async with corral.open(settings_in(Path(name))) as opened:
            for _ in range(2):  # the first makes what is made once
                began = time.perf_counter()
                result = await opened.run("Have it done.", corral.RunOptions(agent=agent))
                took = time.perf_counter() - began
    if (result.status, result.steps) != ("completed", workers + 2):
        raise RuntimeError(f"the run is {result.status}: {result.error} {result.approvals}")
    return took


def _worked(_number: int) -> AIMessage:
    return AIMessage("Worked.")
