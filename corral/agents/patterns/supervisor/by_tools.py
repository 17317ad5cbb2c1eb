"""A coordinator that calls its workers as tools, and may let one take over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypedDict

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.messages.tool import ToolCall
from langgraph.graph import END
from langgraph.types import Command, Send

from corral.agents.delegation import SERVER as TEAM
from corral.agents.handoff import SERVER as HANDOFF
from corral.agents.handoff import Handoff
from corral.agents.kit import Kit
from corral.agents.patterns.state import EMPTY
from corral.agents.patterns.supervisor.coordinator import concluded, coordinating, final
from corral.agents.patterns.supervisor.options import SupervisorOptions, SupervisorState
from corral.memory.labelled import labelled
from corral.policies.provenance.labels import PUBLIC
from corral.tools.contract import SEPARATOR

_TOO_MANY_CALLS = "This call was not made: no more than {most} are made at once."
_TOO_MANY_TASKS = "This task was not given: there were {most} already. Answer with what you have."
_ONE_TAKES_OVER = "This call was not made: only one can take over."


class Work(TypedDict):
    """The input of one task: a call, and what a worker sees before it."""

    call: ToolCall
    history: list[BaseMessage]


class ByTools:
    """The nodes of the graph."""

    def __init__(self, kit: Kit, options: SupervisorOptions) -> None:
        self._kit = coordinating(kit)
        self._team = {member.name for member in kit.team}
        self._options = options
        self._at_once = asyncio.Semaphore(options.parallel)

    async def coordinate(self, state: SupervisorState) -> Command[Any]:
        """Ask the coordinator, which gives tasks or answers."""
        if state["answered"] is not None:
            return Command(update={"messages": [state["answered"]]}, goto=END)
        if state.get("handoff") is not None:
            return Command(goto=END)
        if state["round"] + 1 >= self._options.rounds:
            answer = await concluded(self._kit, self._options, state)
            return Command(update={"messages": [answer]}, goto=END)
        said = await self._kit.ask(
            [*state["messages"], *state["talk"]], aloud=self._options.answer == "coordinator"
        )
        if not said.tool_calls:
            answer = final(self._options, state, said)
            return Command(update={"messages": [answer]}, goto=END)
        return await self._give(state, said)

    async def _give(self, state: SupervisorState, said: AIMessage) -> Command[Any]:
        """Make the calls of an answer that may be made; each of the others gets an error."""
        made, refused = self._sorted(said.tool_calls, self._options.tasks - state["tasks"])
        tasks = sum(_server(call) in (TEAM, HANDOFF) for call in made)
        history: Sequence[BaseMessage] = ()
        if tasks:
            seen = [*state["messages"], *state["talk"]]
            history = await self._kit.shown(self._options.history, seen)
        update: SupervisorState = {
            "talk": [said, *refused],
            "reports": EMPTY,
            "round": state["round"] + 1,
            "tasks": state["tasks"] + tasks,
        }
        work = [Send("work", Work(call=call, history=list(history))) for call in made]
        return Command(update=update, goto=work or "coordinate")

    def _sorted(
        self, calls: Sequence[ToolCall], tasks_left: int
    ) -> tuple[list[ToolCall], list[ToolMessage]]:
        """The calls that are made, and the results of those that are not."""
        made: list[ToolCall] = []
        refused: list[ToolMessage] = []
        tasks, taken_over = 0, False
        for call in calls:
            server = _server(call)
            is_task = server in (TEAM, HANDOFF)
            if len(made) >= self._options.calls:
                refused.append(_refused(call, _TOO_MANY_CALLS.format(most=self._options.calls)))
            elif is_task and tasks >= tasks_left:
                refused.append(_refused(call, _TOO_MANY_TASKS.format(most=self._options.tasks)))
            elif server == HANDOFF and taken_over:
                refused.append(_refused(call, _ONE_TAKES_OVER))
            else:
                made.append(call)
                tasks += is_task
                taken_over = taken_over or server == HANDOFF
        return made, refused

    async def work(self, state: Work) -> SupervisorState:
        """Make one call: a worker's task, somebody who takes over, or a tool of its own."""
        history = state["history"]
        async with self._at_once:
            used = await self._kit.use(dict(state["call"]), history=history)
            if used.handoff is not None and used.handoff.to in self._team:
                return await self._take_over(used.handoff, used.message, history)
        if used.handoff is not None:
            return {"talk": [used.message], "handoff": used.handoff.to_json()}
        if used.report is None or used.report.is_error:
            return {"talk": [used.message]}
        return {"talk": [used.message], "reports": [used.report.message]}

    async def _take_over(
        self, handoff: Handoff, message: ToolMessage, history: Sequence[BaseMessage]
    ) -> SupervisorState:
        """Let a worker answer the user. If it cannot, the coordinator is told and goes on."""
        returns = self._kit.agent.returns
        report = await self._kit.work(handoff.to, handoff.message, history=history, returns=returns)
        if not report.is_error:
            return {"talk": [message], "answered": report.message}
        told = message.model_copy(update={"content": report.text, "status": "error"})
        return {"talk": [told]}


def _server(call: ToolCall) -> str:
    return call["name"].partition(SEPARATOR)[0]


def _refused(call: ToolCall, why: str) -> ToolMessage:
    told = ToolMessage(why, tool_call_id=call["id"], name=call["name"], status="error")
    return labelled(told, PUBLIC)
