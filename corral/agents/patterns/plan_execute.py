"""Plan and execute: a plan first, then its steps, and a look at the plan after each of them.

Plan-and-Solve (Wang et al. 2023, arXiv:2305.04091); LangChain, "Plan-and-Execute Agents" (2024).

    START ─► plan ─► step (one task per step that can begin) ─► review ─► answer ─► END
                      ▲                                           │
                      └─────── the next steps, or a new plan ─────┘

A step begins when those that it comes ``after`` are done; what names no step, itself, or goes round
in a circle is done in the plan's order. It ends when the plan is done or a review says so, after
``steps`` steps in all, and after ``replans`` new plans; then the answer is written from the
results. Where a plan cannot be read the request itself is the one step, and where a review cannot
be read the plan goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send
from pydantic import BaseModel, Field

from corral.agents.kit import Kit
from corral.agents.patterns.contract import Graph, Pattern
from corral.agents.patterns.prompts import framed, prompt, task_of
from corral.agents.patterns.state import EMPTY, PatternState, gathered
from corral.agents.patterns.tasks import (
    Assigned,
    Crew,
    Done,
    Task,
    TaskOptions,
    reported,
    sources,
)
from corral.runtime.models.structured import Extracted

_PLAN = (
    "Plan how to answer the request. Do not answer it. Give at most {most} short steps, each a "
    "task that makes sense by itself. A step begins when those that it comes after are done: give "
    "their numbers, from 1, and none for a step that needs no other."
)
_STEP = "Do this one step of a plan for the request, and report what came of it."
_REVIEW = (
    "Look at the plan for the request and what came of its steps. Decide: `continue` with the "
    "steps that are left; `replan`, and give at most {most} steps to do instead, numbered from 1; "
    "or `finish`, when the results are enough to answer the request."
)


class PlanExecuteOptions(TaskOptions):
    """The options of plan and execute."""

    plan_length: int = Field(default=8, ge=1, le=50, description="Steps of one plan at most.")
    steps: int = Field(default=16, ge=1, le=200, description="Steps in all at most.")
    replans: int = Field(default=2, ge=0, le=20, description="New plans at most.")
    planner: str = Field(
        default="", description="The sub-agent that plans; the agent itself when left out."
    )

    def roles(self) -> Iterator[str]:
        """The planner."""
        yield from filter(None, (self.planner,))


class PlannedStep(Task):
    """A step of a plan."""

    after: list[int] | None = Field(
        default=None,
        max_length=50,
        description="Numbers of the steps that come before; the one before when left out.",
    )


class Plan(BaseModel):
    """A plan."""

    tasks: list[PlannedStep]


class Review(BaseModel):
    """What becomes of a plan."""

    decision: Literal["continue", "replan", "finish"]
    tasks: list[PlannedStep] = []


class Step(Assigned):
    """A step with the numbers of those that it comes after."""

    after: list[int]


class PlanState(PatternState, total=False):
    """``plan`` are the steps, of which ``results`` has those that are done.

    ``planned`` is the message that the plan came in.
    """

    plan: list[Step]
    planned: AIMessage | None
    results: Annotated[list[Done], gathered]
    replans: int


class StepTask(PatternState):
    """The input of one step."""

    step: Step
    planned: AIMessage | None
    results: list[Done]


def numbered(tasks: Sequence[PlannedStep], workers: Sequence[str], begin: int) -> list[Step]:
    """The steps of a plan, numbered from ``begin``; those without a text are left out.

    References to other steps than these are dropped.
    """
    kept = [(index, task) for index, task in enumerate(tasks, 1) if task.task.strip()]
    numbers = {index: number for number, (index, _) in enumerate(kept, begin)}
    steps: list[Step] = []
    for index, task in kept:
        number = numbers[index]
        before = [number - 1] if number > begin else []
        named = before if task.after is None else [numbers.get(one, number) for one in task.after]
        steps.append(
            Step(
                number=number,
                task=task.task.strip(),
                worker=task.worker if task.worker in workers else "",
                after=sorted({*named} - {number}),
            )
        )
    return steps


def ready(plan: Sequence[Step], finished: set[int]) -> list[Step]:
    """The steps that can begin: of a plan whose steps wait for one another, the first."""
    left = [step for step in plan if step["number"] not in finished]
    free = [step for step in left if finished.issuperset(step["after"])]
    return free or left[:1]


class _PlanExecute:
    """The nodes of the graph."""

    def __init__(self, kit: Kit, options: PlanExecuteOptions) -> None:
        self._options = options
        self._crew = Crew(kit, options.planner, options)
        self._plan = self._crew.bounded(Plan, PlannedStep, options.plan_length)
        self._review = self._crew.bounded(Review, PlannedStep, options.plan_length)

    async def plan(self, state: PlanState) -> Command[str]:
        """Make the plan, and begin."""
        messages = state["messages"]
        asked = prompt(_PLAN.format(most=self._options.plan_length), self._crew.who_can())
        plan = await self._crew.head.extract(messages, asked, self._plan)
        request = Step(number=1, task=task_of(messages), worker="", after=[])
        if plan is None:
            return self._next({**state, "plan": [request]})
        steps = self._steps(plan.value.tasks, 1)
        return self._next({**state, "plan": steps or [request], "planned": plan.message})

    async def step(self, state: StepTask) -> PlanState:
        """Do one step."""
        step, results = state["step"], state["results"]
        data = reported(results), framed("step", step["task"])
        asked = prompt(_STEP, *data, of=filter(None, (*sources(results), state["planned"])))
        return {"results": [await self._crew.do(step, state["messages"], asked)]}

    async def review(self, state: PlanState) -> Command[str]:
        """Go on with the plan, change it, or be done with it."""
        if not _left(state) and state["replans"] >= self._options.replans:
            return Command(goto="answer")
        if len(state["results"]) >= self._options.steps:
            return Command(goto="answer")
        review = await self._reviewed(state)
        match review.value.decision if review else "continue":
            case "finish":
                return Command(goto="answer")
            case "replan" if review and state["replans"] < self._options.replans:
                return self._next(self._replanned(state, review))
            case _:
                return self._next(state)

    def _replanned(self, state: PlanState, review: Extracted[Review]) -> PlanState:
        """The state with the new steps, if there are any, instead of those that are left."""
        steps = self._steps(review.value.tasks, state["plan"][-1]["number"] + 1)
        replans = state["replans"] + 1
        if not steps:
            return {**state, "replans": replans}
        return {**state, "plan": steps, "planned": review.message, "replans": replans}

    async def _reviewed(self, state: PlanState) -> Extracted[Review] | None:
        messages = state["messages"]
        left = "\n".join(f"{step['number']}. {step['task']}" for step in _left(state))
        asked = prompt(
            _REVIEW.format(most=self._options.plan_length),
            self._crew.who_can(),
            reported(state["results"]),
            framed("left", left),
            of=sources(state["results"]),
        )
        return await self._crew.head.extract(messages, asked, self._review)

    def _steps(self, tasks: Sequence[PlannedStep], begin: int) -> list[Step]:
        return numbered(tasks[: self._options.plan_length], self._crew.workers, begin)

    def _next(self, state: PlanState) -> Command[str]:
        """The steps that can begin; the answer, when there are none or there were enough."""
        results = state["results"]
        allowed = self._options.steps - len(results)
        steps = ready(_left(state), _finished(state))[:allowed]
        tasks = [
            StepTask(
                step=step, messages=state["messages"], planned=state["planned"], results=results
            )
            for step in steps
        ]
        update: PlanState = {
            "plan": state["plan"],
            "planned": state["planned"],
            "replans": state["replans"],
        }
        return Command(update=update, goto=[Send("step", task) for task in tasks] or "answer")

    async def answer(self, state: PlanState) -> PlanState:
        """Answer from the results."""
        return {"messages": [await self._crew.answer(state["messages"], state["results"])]}


def _finished(state: PlanState) -> set[int]:
    return {one["number"] for one in state["results"]}


def _left(state: PlanState) -> list[Step]:
    finished = _finished(state)
    return [step for step in state["plan"] if step["number"] not in finished]


def build(kit: Kit, options: PlanExecuteOptions) -> Graph:
    """The graph of an agent that plans."""
    nodes = _PlanExecute(kit, options)
    graph = StateGraph(PlanState)
    graph.add_node("plan", nodes.plan, destinations=("step", "answer"))
    graph.add_node("step", nodes.step, input_schema=StepTask)
    graph.add_node("review", nodes.review, destinations=("step", "answer"))
    graph.add_node("answer", nodes.answer)
    graph.add_edge(START, "plan")
    graph.add_edge("step", "review")
    graph.add_edge("answer", END)
    return graph


PATTERN = Pattern(
    name="plan_execute",
    summary="A plan, its steps, and a look at the plan after each of them.",
    source='Wang et al. 2023, Plan-and-Solve, arXiv:2305.04091; LangChain 2024, "Plan-and-Execute '
    'Agents"',
    options=PlanExecuteOptions,
    build=build,
    fresh={"plan": [], "planned": None, "results": EMPTY, "replans": 0},
)
