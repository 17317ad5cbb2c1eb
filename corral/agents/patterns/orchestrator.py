"""Orchestrator and workers: the request is taken apart, and its parts are done at the same time.

Anthropic, "Building effective agents" (2024), workflow: orchestrator-workers; a map and a reduce
over a list that the orchestrator makes.

    START ─► orchestrate ─► work (one task per subtask) ─► synthesise ─► END

It ends by its form: one list of at most ``subtasks`` subtasks, each done once, and one answer made
of what came of them, failures included. Subtasks that say the same are done once. Where no list can
be read the request itself is the one subtask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from pydantic import BaseModel, Field

from corral.agents.kit import Kit
from corral.agents.patterns.contract import Graph, Pattern
from corral.agents.patterns.prompts import framed, prompt, task_of
from corral.agents.patterns.state import EMPTY, PatternState, gathered
from corral.agents.patterns.tasks import Assigned, Crew, Done, Task, TaskOptions

_TAKE_APART = (
    "Take the request apart into at most {most} subtasks that can be done at the same time, "
    "without one another. Do not answer it. Each makes sense by itself."
)
_WORK = "Do this one part of the request, and report what came of it."


class OrchestratorOptions(TaskOptions):
    """The options of an orchestrator."""

    subtasks: int = Field(default=6, ge=1, le=100, description="Subtasks at most.")
    orchestrator: str = Field(
        default="",
        description="The sub-agent that makes the list; the agent itself when left out.",
    )

    def roles(self) -> Iterator[str]:
        """The orchestrator."""
        yield from filter(None, (self.orchestrator,))


class Subtasks(BaseModel):
    """The list that an orchestrator makes."""

    tasks: list[Task]


class OrchestratorState(PatternState, total=False):
    """``subtasks`` are what is to be done, ``results`` what came of them.

    ``listed`` is the message that the list came in.
    """

    subtasks: list[Assigned]
    listed: AIMessage | None
    results: Annotated[list[Done], gathered]


class WorkTask(PatternState):
    """The input of one worker."""

    subtask: Assigned
    listed: AIMessage | None


def assigned(tasks: Sequence[Task], workers: Sequence[str], most: int) -> list[Assigned]:
    """The first ``most`` different subtasks; one for an unknown worker is the agent's own."""
    kept: dict[tuple[str, str], Assigned] = {}
    for task in tasks:
        text = " ".join(task.task.split())
        worker = task.worker if task.worker in workers else ""
        key = (text.casefold(), worker)
        if text and key not in kept and len(kept) < most:
            kept[key] = Assigned(number=len(kept) + 1, task=task.task.strip(), worker=worker)
    return list(kept.values())


class _Orchestrator:
    """The nodes of the graph."""

    def __init__(self, kit: Kit, options: OrchestratorOptions) -> None:
        self._crew = Crew(kit, options.orchestrator, options)
        self._most = options.subtasks
        self._subtasks = self._crew.bounded(Subtasks, Task, options.subtasks)

    async def orchestrate(self, state: OrchestratorState) -> OrchestratorState:
        """Make the list."""
        messages = state["messages"]
        asked = prompt(_TAKE_APART.format(most=self._most), self._crew.who_can())
        given = await self._crew.head.extract(messages, asked, self._subtasks)
        whole = Assigned(number=1, task=task_of(messages), worker="")
        if given is None:
            return {"subtasks": [whole]}
        subtasks = assigned(given.value.tasks, self._crew.workers, self._most)
        return {"subtasks": subtasks or [whole], "listed": given.message}

    def fan_out(self, state: OrchestratorState) -> list[Send]:
        """One task for each subtask."""
        return [
            Send("work", WorkTask(subtask=one, listed=state["listed"], messages=state["messages"]))
            for one in state["subtasks"]
        ]

    async def work(self, state: WorkTask) -> OrchestratorState:
        """Do one subtask."""
        subtask, listed = state["subtask"], state["listed"]
        asked = prompt(_WORK, framed("part", subtask["task"]), of=filter(None, (listed,)))
        return {"results": [await self._crew.do(subtask, state["messages"], asked)]}

    async def synthesise(self, state: OrchestratorState) -> OrchestratorState:
        """Make the answer of the results."""
        return {"messages": [await self._crew.answer(state["messages"], state["results"])]}


def build(kit: Kit, options: OrchestratorOptions) -> Graph:
    """The graph of an agent that orchestrates."""
    nodes = _Orchestrator(kit, options)
    graph = StateGraph(OrchestratorState)
    graph.add_node("orchestrate", nodes.orchestrate)
    graph.add_node("work", nodes.work, input_schema=WorkTask)
    graph.add_node("synthesise", nodes.synthesise)
    graph.add_edge(START, "orchestrate")
    graph.add_conditional_edges("orchestrate", nodes.fan_out, ["work"])
    graph.add_edge("work", "synthesise")
    graph.add_edge("synthesise", END)
    return graph


PATTERN = Pattern(
    name="orchestrator_workers",
    summary="The request is taken apart, and its parts are done at the same time.",
    source='Anthropic 2024, "Building effective agents"',
    options=OrchestratorOptions,
    build=build,
    fresh={"subtasks": [], "listed": None, "results": EMPTY},
)
