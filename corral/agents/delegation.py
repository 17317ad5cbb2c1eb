"""Sub-agents: an agent does a task for another, inside of the same run.

A delegation is an effect without an end of its own making: all that a sub-agent does goes through
the same door, so the run's budget, policy, approvals, journal and replay reach it at any depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from corral.agents.typed_answer import TypedAnswer
from corral.errors import BudgetReached
from corral.jsontypes import JsonObject
from corral.runtime.context import perform
from corral.runtime.effects import Attempt, Effect, Guard, Outcome
from corral.runtime.nested import invoke
from corral.runtime.program import Program
from corral.tools.contract import CallOptions, ToolResult, ToolSpec

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


def as_tool(name: str, description: str) -> ToolSpec:
    """A sub-agent as the model of another sees it: a tool that takes a task.

    By itself a delegation does nothing to the world, so policy lets it through; what the
    sub-agent then does is decided call by call.
    """
    return ToolSpec(
        server=SERVER,
        tool=name,
        description=description or f"Let the agent {name} do a task and report.",
        input_schema={
            "type": "object",
            "properties": {
                "task": {
                    "type": "string",
                    "minLength": 1,
                    "description": "All that it needs to know: it does not see this conversation.",
                }
            },
            "required": ["task"],
            "additionalProperties": False,
        },
        read_only=True,
        destructive=False,
        idempotent=True,
        open_world=False,
        trusted=True,
    )


async def delegate(to: SubAgent, task: str) -> ToolResult:
    """Let a sub-agent do a task, and return its answer. Raises what ends the run in there."""
    outcome = await perform(delegation(to, {"task": task}))
    return ToolResult(str(outcome.value["text"]), is_error=bool(outcome.value["is_error"]))


def delegation(to: SubAgent, args: JsonObject, call_id: str = "") -> Effect:
    """The effect of giving a sub-agent the task in ``args``; ``call_id`` as in ``Guard``."""

    async def execute(attempt: Attempt) -> Outcome:
        program = to.program()
        await program.prepare()
        task = await program.admit(str(args["task"]))
        try:
            state = await invoke(program.graph(), program.initial(task, attempt.path))
        except BudgetReached as reached:
            if reached.scope != f"{attempt.path}/":
                raise
            return _outcome(to, reached.answer)  # only this agent's own budget is used up
        return _outcome(to, program.output(state))

    spec = to.spec
    return Effect(
        kind="agent",
        name=spec.tool,
        request={"agent": spec.tool, "args": args},
        execute=execute,
        pure=True,
        closed=to.typed is not None and to.typed.is_closed,
        guard=Guard(
            spec,
            args,
            refuse=lambda reason: Outcome(_answer(reason, is_error=True)),
            give=lambda text: Outcome(_answer(text)),
            edit=lambda new: delegation(to, new, call_id),
            call_id=call_id,
        ),
    )


def _outcome(to: SubAgent, answer: str) -> Outcome:
    """What whoever gave the task gets: of an answer of a declared type the value alone."""
    if to.typed is None:
        return Outcome(_answer(answer))
    text, is_error = to.typed.settle(answer)
    return Outcome(_answer(text, is_error=is_error))


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
