"""What the tests of patterns share: models that answer what they are asked, and runs of all kinds.

A model by ``Answering`` gives its answer by the request and not by its number, so that it may be
asked by parallel branches, cut off and asked again. ``ScriptedModel`` does for one agent in a row.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, ToolCall

import corral
from corral.errors import ModelError
from corral.runtime.config import Settings
from corral.runtime.events import Event, ModelFinished, RunFinished, ToolFinished
from corral.runtime.models.contract import (
    Chunk,
    FinalChunk,
    JsonOutput,
    ModelRequest,
    TextChunk,
    Usage,
)
from corral.runtime.views import RunResult
from tests.runtime.agents import Turn, turn

PATIENT = corral.RunLimits(max_steps=200)
"""Limits that are in no pattern's way."""


def deciding(**fields: Any) -> Turn:
    """A turn that gives a structured decision with these fields."""
    return turn(json.dumps(fields))


def text_of(request: ModelRequest) -> str:
    """All that a request says, system message first, for a model to answer by."""
    return "\n".join(str(message.text) for message in request.messages)


def wants(request: ModelRequest) -> str:
    """The name of the type that a decision is to have; empty for free text."""
    return str(request.output.schema["title"]) if isinstance(request.output, JsonOutput) else ""


@dataclass
class Answering:
    """A model whose turns are given by a function of the request, and all that it was asked."""

    reply: Callable[[ModelRequest], Turn | str]
    name: str = "answering"
    context_window: int = 128_000
    asked: list[ModelRequest] = field(default_factory=list)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Answer as the function says; a turn with ``error`` is a failure of the model."""
        self.asked.append(request)
        given = self.reply(request)
        said = turn(given) if isinstance(given, str) else given
        if "error" in said:
            raise ModelError(str(said["error"]))
        text = str(said.get("text", ""))
        calls = [
            ToolCall(name=call["name"], args=dict(call["args"]), id=f"call-{request.turn}-{index}")
            for index, call in enumerate(said.get("tool_calls", ()))
        ]
        if text:
            yield TextChunk(text)
        yield FinalChunk(
            AIMessage(text, tool_calls=calls),
            Usage(3, 4),
            stop_reason="tool_calls" if calls else "stop",
        )

    def check_complete(self, turns: int) -> None:
        """It can always be asked once more."""

    async def aclose(self) -> None:
        """Nothing to free."""


class Garbage(Answering):
    """A model that gives the same nonsense whatever it is asked; or the ``draft`` for free text."""

    def __init__(self, nonsense: str = "%$ no JSON", draft: str | None = None) -> None:
        def reply(request: ModelRequest) -> str:
            return nonsense if draft is None or request.output is not None else draft

        super().__init__(reply)


def answers(model: Any, *functions: Callable[..., Any], **fields: Any) -> corral.Agent:
    """An agent of this model (or of these turns) that has only ``functions`` for tools."""
    chosen = corral.ScriptedModel(model) if isinstance(model, list) else model
    given = {"servers": (), "facts": 0, "limits": PATIENT, **fields}
    return corral.Agent(functions=functions, chat_model=chosen, **given)


def allowing(settings: Settings, *asked: str) -> Settings:
    """Settings that let every function through, and ask about those of ``asked``."""
    asking = [{"tool": f"functions__{name}", "action": "ask"} for name in asked]
    rules = [*asking, {"tool": "functions__*", "action": "allow"}]
    return corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    )


@dataclass(frozen=True)
class Solved:
    """A run that completed: how it ended, its journal, and what a user was told meanwhile."""

    result: RunResult
    journal: Sequence[corral.EffectView]
    events: Sequence[Event]

    @property
    def output(self) -> str:
        """The answer."""
        return self.result.output

    @property
    def calls(self) -> int:
        """How often a model was asked."""
        return sum(entry.kind == "model" for entry in self.journal)

    @property
    def aloud(self) -> list[str]:
        """The texts that models said to the user."""
        said = [e for e in self.events if isinstance(e, ModelFinished) and e.aloud]
        return [event.text for event in said]


async def replayed(c: corral.Corral, run: str, agent: corral.Agent) -> None:
    """The run replays: identical, with nothing executed."""
    report = await c.replay(run, corral.RunOptions(agent=agent))
    assert (report.status, report.executed) == ("identical", 0), report.divergence


async def solved(settings: Settings, agent: corral.Agent, prompt: str = "Go.") -> Solved:
    """Run the agent to its end, which is an answer, and replay that offline."""
    async with corral.open(allowing(settings)) as c:
        return await solved_in(c, agent, prompt)


async def solved_in(
    c: corral.Corral, agent: corral.Agent, prompt: str = "Go.", thread: str | None = None
) -> Solved:
    """``solved``, for further prompts in one thread."""
    options = corral.RunOptions(agent=agent, thread=thread)
    events = [event async for event in c.stream(prompt, options)]
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.result.status == "completed", last.result.error
    await replayed(c, last.result.run, agent)
    return Solved(last.result, await c.records.trace(last.result.run), events)


async def cut_and_resumed(settings: Settings, agent: corral.Agent, after: int) -> RunResult:
    """Cut the run off when ``after`` answers of models or tools are there, resume it and replay it.

    What had been answered must not be asked again.
    """
    async with corral.open(allowing(settings)) as c:
        options, ended = corral.RunOptions(agent=agent), 0
        async with contextlib.aclosing(c.stream("Go.", options)) as events:
            async for event in events:
                ended += isinstance(event, ModelFinished | ToolFinished)
                if ended == after:
                    break
        (run,) = await c.records.runs()
        assert ended == after, f"it ended after {ended}"
        had = {e.path: e.seq for e in await c.records.trace(run.run) if e.status == "finished"}
        done = await c.resume(run.run, options)
        while done.status == "paused":  # a call beside what was waited for is in doubt: retry it
            for question in done.approvals:
                await c.approve(question.id)
            done = await c.resume(run.run, options)
        assert done.status == "completed", done.error
        now = {entry.path: entry.seq for entry in await c.records.trace(run.run)}
        assert had.items() <= now.items()
        await replayed(c, run.run, agent)
        return done


async def approved(settings: Settings, agent: corral.Agent, tool: str, prompt: str = "Go.") -> int:
    """Run the agent, approve every call of the function ``tool``, and replay it at every pause.

    Gives how many questions there were; the run must end with an answer.
    """
    async with corral.open(allowing(settings, tool)) as c:
        options = corral.RunOptions(agent=agent)
        result = await c.run(prompt, options)
        questions = 0
        while result.status == "paused":
            await replayed(c, result.run, agent)
            for question in result.approvals:
                questions += 1
                await c.approve(question.id)
            result = await c.resume(result.run, options)
        assert result.status == "completed", result.error
        await replayed(c, result.run, agent)
        return questions
