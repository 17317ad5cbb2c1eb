"""Sub-agents: an agent does a task for another, inside of the same run.

A delegation is an effect without an end of its own making: all that a sub-agent does goes through
the same door, so the run's budget, policy, approvals, journal and replay reach it at any depth.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from typing import Protocol

import structlog
from langchain_core.messages import BaseMessage
from langgraph.errors import GraphBubbleUp

from corral.agents.typed_answer import FAILED, TypedAnswer
from corral.errors import (
    CheckFailed,
    ControlFlow,
    CorralError,
    DivergenceError,
    LimitReached,
    StorageError,
)
from corral.jsontypes import JsonObject
from corral.runtime.context import placed
from corral.runtime.effects import Attempt, Effect, Guard, Outcome
from corral.runtime.nested import invoke
from corral.runtime.program import Program, State, with_before
from corral.tools.contract import SEPARATOR, CallOptions, ToolResult, ToolSpec, harmless_tool

log = structlog.get_logger()

_ENDS_RUN = (ControlFlow, StorageError, DivergenceError, GraphBubbleUp)
"""What is raised in an agent's graph and is not an answer to whoever gave it a task."""

_HANDED_ON = ("handoff", "confidence")
"""What of an agent's state, where it is there, is for whoever gave the task besides the answer."""

_MAX_WORDS = 2000
"""Characters of an error that whoever gave the task is told."""

SERVER = "agents"
"""The server's name under which sub-agents are offered as tools."""


class SubAgent(Protocol):
    """An agent that can be given a task."""

    @property
    def spec(self) -> ToolSpec:
        """What the agent that delegates is told of it."""
        ...

    @property
    def typed(self) -> TypedAnswer | None:
        """The type of its answers; ``None`` for free text."""
        ...

    def program(self) -> Program:
        """Its graph, made anew for every task."""
        ...


def tool_name(agent: str) -> str:
    """The name of the tool that a sub-agent is offered as."""
    return f"{SERVER}{SEPARATOR}{agent}"


def as_tool(name: str, description: str) -> ToolSpec:
    """A sub-agent as the model of another sees it: a tool that takes a task.

    By itself a delegation does nothing to the world, so policy lets it through; what the
    sub-agent then does is decided call by call.
    """
    return harmless_tool(
        SERVER,
        name,
        description or f"Let the agent {name} do a task and report.",
        {
            "task": {
                "type": "string",
                "minLength": 1,
                "description": "All that it needs to know: it does not see this conversation.",
            }
        },
    )


@dataclass(frozen=True)
class Task:
    """What a sub-agent is given: a text, and the messages that it sees before it."""

    text: str
    history: tuple[BaseMessage, ...] = ()


async def delegate(to: SubAgent, task: Task) -> tuple[str, JsonObject]:
    """Let a sub-agent do a task. Gives the path at which it did, and its ``text``, whether that
    ``is_error``, a ``handoff`` where it wants another to take over, and the ``confidence`` of its
    model where it told that.

    Raises what ends the run in there.
    """
    path, outcome = await placed(delegation(to, task))
    return path, outcome.value


def delegation(to: SubAgent, task: Task, call_id: str = "") -> Effect:
    """The effect of giving a sub-agent a task; ``call_id`` as in ``Guard``.

    Whatever goes wrong in there, and a limit of the agent's own, is an answer to whoever gave the
    task. What ends the run goes through: its limits, a stop, a check that is there to stop it, a
    question, its storage.
    """
    name, args = to.spec.tool, {"task": task.text}

    async def execute(attempt: Attempt) -> Outcome:
        try:
            program = to.program()
            await program.prepare()
            text = await program.admit(task.text)
            begin = with_before(program.initial(text, attempt.path), task.history)
            state = await invoke(program.graph(), begin)
        except LimitReached as reached:
            if reached.scope != f"{attempt.path}/":
                raise
            given = _settled(to, reached.answer)  # the limit is this agent's own
        except CheckFailed as refused:
            if refused.ends_run:
                raise
            given = _failed(to, refused)
        except _ENDS_RUN:
            raise
        except Exception as failed:  # noqa: BLE001  the border to a graph of the caller's own
            given = _failed(to, failed)
        else:
            given = _ended(to, state, program.output(state))
        return Outcome(given)

    return Effect(
        kind="agent",
        name=name,
        request={"agent": name, "args": args},
        execute=execute,
        pure=True,
        closed=to.typed is not None and to.typed.is_closed,
        guard=Guard(
            to.spec,
            args,
            refuse=lambda reason: Outcome(_answer(reason, is_error=True)),
            give=lambda text: Outcome(_answer(text)),
            edit=lambda new: delegation(to, replace(task, text=str(new["task"])), call_id),
            call_id=call_id,
        ),
    )


def _ended(to: SubAgent, state: State, answer: str) -> JsonObject:
    more = {name: state[name] for name in _HANDED_ON if state.get(name) is not None}
    if to.typed is None or "handoff" not in more:
        return {**_settled(to, answer), **more}
    if to.typed.is_closed:  # the name of another is all that can get out beside a value
        more["handoff"] = {**more["handoff"], "message": ""}
    return {**_answer(""), **more}


def _settled(to: SubAgent, answer: str) -> JsonObject:
    """What whoever gave the task gets: of an answer of a declared type the value alone."""
    if to.typed is None:
        return _answer(answer)
    text, is_error = to.typed.settle(answer)
    return _answer(text, is_error=is_error)


def _failed(to: SubAgent, failed: Exception) -> JsonObject:
    """Why there is no answer. Of an agent whose answers have a type nothing else gets out."""
    name = to.spec.tool
    words = str(failed)
    if not isinstance(failed, CorralError):
        where = traceback.extract_tb(failed.__traceback__)[-1]
        log.error("agent_broke", agent=name, error=type(failed).__name__, line=where.lineno)
        words = f"{type(failed).__name__}: {failed}"
    why = FAILED if to.typed else f"The agent {name} could not go on. {words[:_MAX_WORDS]}"
    return _answer(why, is_error=True)


def _answer(text: str, *, is_error: bool = False) -> JsonObject:
    return {"text": text, "is_error": is_error}


@dataclass(frozen=True)
class Delegates:
    """A ``ToolProvider`` that lists sub-agents; a node runs their graphs, not a server."""

    specs: tuple[ToolSpec, ...]
    name: str = SERVER

    async def list_tools(self) -> list[ToolSpec]:
        """One tool for each sub-agent."""
        return list(self.specs)

    async def call(self, tool: str, args: JsonObject, options: CallOptions) -> ToolResult:
        """Never reached: see ``delegate``."""
        del args, options
        raise AssertionError(f"the sub-agent {tool} was called as a server's tool")

    async def aclose(self) -> None:
        """Nothing to close."""
