"""A coordinator that is asked for a decision: who works next, on what, or that it is done.

For models that are bad at calling tools: the decision is held to the names of the team.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypedDict

from langchain_core.messages import AnyMessage, BaseMessage
from langgraph.graph import END
from langgraph.types import Command, Send
from pydantic import BaseModel, Field

from corral.agents.kit import Kit
from corral.agents.patterns.choice import one_of
from corral.agents.patterns.prompts import described, framed, prompt
from corral.agents.patterns.state import EMPTY
from corral.agents.patterns.supervisor.coordinator import concluded, coordinating
from corral.agents.patterns.supervisor.options import SupervisorOptions, SupervisorState

FINISH = "finish"
"""What is decided when nobody is to work any more."""

_NEXT = (
    "Who of the team works next, and on what task? Decide for `finish` when the reports answer the "
    "request."
)
_LONGEST = 2000  # characters of a task


class Assigned(TypedDict):
    """The input of one task: who does it, what it is, and what they see before it."""

    worker: str
    task: str
    history: list[BaseMessage]


class Next(BaseModel):
    """Who works next, and on what."""

    worker: str
    task: str = Field(max_length=_LONGEST, description="All that they need to know.")


class ByDecision:
    """The nodes of the graph."""

    def __init__(self, kit: Kit, options: SupervisorOptions) -> None:
        members = described({one.name: one.description for one in kit.team})
        self._kit = coordinating(kit, f"Your team:\n{members}")
        self._options = options

    @cached_property
    def _next(self) -> type[Next]:
        return one_of(Next, "worker", (*(member.name for member in self._kit.team), FINISH))

    async def coordinate(self, state: SupervisorState) -> Command[Any]:
        """Decide who works next; the same task is not given twice in a row."""
        decided = await self._decided(state)
        if decided is None:
            answer = await concluded(self._kit, self._options, state)
            return Command(update={"messages": [answer]}, goto=END)
        history = await self._kit.shown(self._options.history, state["messages"])
        asked = [decided.worker, decided.task]
        update: SupervisorState = {
            "reports": EMPTY,
            "asked": asked,
            "round": state["round"] + 1,
            "tasks": state["tasks"] + 1,
        }
        work = Assigned(worker=decided.worker, task=decided.task, history=list(history))
        return Command(update=update, goto=Send("work", work))

    async def _decided(self, state: SupervisorState) -> Next | None:
        """Who works next; ``None``: it is done."""
        options = self._options
        if state["round"] + 1 >= options.rounds or state["tasks"] >= options.tasks:
            return None
        messages: list[AnyMessage] = [*state["messages"], *state["talk"], prompt(_NEXT)]
        decided = await self._kit.decide(messages, self._next)
        if decided is None or decided.worker == FINISH:
            return None
        if not decided.task.strip() or [decided.worker, decided.task] == state["asked"]:
            return None
        return decided

    async def work(self, state: Assigned) -> SupervisorState:
        """Let the worker do it."""
        name, task = state["worker"], state["task"]
        report = await self._kit.work(name, task, history=state["history"])
        words = f"{name} could not do it" if report.is_error else f"Report of {name}"
        told = prompt(
            words, framed("task", task), framed("report", report.text), of=[report.message]
        )
        return {"talk": [told], "reports": [] if report.is_error else [report.message]}
