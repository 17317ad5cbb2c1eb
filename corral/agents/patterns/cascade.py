"""A cascade: the cheap member answers first, and a dearer one where it is not sure enough.

Chen et al. 2023, "FrugalGPT", arXiv:2305.05176; confidence by agreement: Madaan et al. 2023,
"AutoMix: Automatically Mixing Language Models", arXiv:2310.12963.

    START ─► begin ─► answer ─► (sample, one task per try) ─► doubt ─► END
                        ▲                                       │
                        └──────────── the next level ◄──────────┘

It ends with an answer whose confidence is ``threshold`` or more, and at the last level, which is
not doubted. A level that fails, and one of whose confidence nothing is known, escalates. Where the
last level fails, the surest of the answers before is the answer, of equal ones the dearest; where
there is none, why it failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send
from pydantic import BaseModel, Field, model_validator

from corral.agents.history import History
from corral.agents.kit import Kit, Report
from corral.agents.patterns.answers import AnswerOptions, Extractor, answer_in
from corral.agents.patterns.contract import Graph, Pattern
from corral.agents.patterns.prompts import framed, prompt, task_of
from corral.agents.patterns.roles import Role
from corral.agents.patterns.sampling import SamplingOptions, apart
from corral.agents.patterns.state import EMPTY, PatternState, gathered
from corral.agents.patterns.team import require_team
from corral.agents.spec import Agent
from corral.runtime.models.combined.confidence import JUDGE, POINTS

_JUDGE = f"{JUDGE} How many points? Do not answer the request."


class CascadeOptions(AnswerOptions, SamplingOptions):
    """The options of a cascade."""

    levels: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        max_length=16,
        description="The sub-agents, the cheapest first; the team in its order when left out.",
    )
    confidence: Literal["judge", "agreement", "logprobs"] = Field(
        default="judge",
        description="How sure an answer is: points that a judge gives; how many of `samples` "
        "answers say the same; or the mean probability of its tokens (ReAct agents on models that "
        "tell it, as local ones do).",
    )
    threshold: float = Field(default=0.7, ge=0, le=1, description="What is sure enough.")
    samples: int = Field(
        default=3, ge=2, le=16, description="With confidence = agreement: answers of one level."
    )
    judge: str = Field(
        default="", description="The sub-agent that judges; the agent itself when left out."
    )
    history: History = Field(
        default="all", description="What a level sees of the conversation before."
    )
    extract: Extractor = Field(
        default="last_line", description="How answers are found, to be compared."
    )

    @model_validator(mode="after")
    def _check_levels(self) -> CascadeOptions:
        if len(set(self.levels)) < len(self.levels):
            raise ValueError("levels are different sub-agents")
        if self.judge in self.levels:
            raise ValueError("the judge is none of the levels")
        return self

    def roles(self) -> Iterator[str]:
        """The judge."""
        yield from filter(None, (self.judge,))

    def members(self) -> Iterator[str]:
        """The levels and the judge."""
        yield from (*self.levels, *self.roles())


class Again(TypedDict):
    """The input of a further try of a level: its number, from 1."""

    level: int
    number: int
    task: str
    history: list[BaseMessage]


class CascadeState(PatternState, total=False):
    """``shown`` is what the levels see before the request, ``level`` whose turn it is.

    ``answer`` is the one in doubt, with the mean probability of its tokens; ``samples`` is what
    others of the same level say, as it is compared. ``best`` is the surest answer so far, of the
    confidence ``best_score``.
    """

    shown: list[BaseMessage]
    level: int
    answer: AIMessage | None
    probability: float | None
    samples: Annotated[list[str | None], gathered]
    best: AIMessage | None
    best_score: float


FRESH: dict[str, Any] = {
    "shown": [],
    "level": 0,
    "answer": None,
    "probability": None,
    "samples": EMPTY,
    "best": None,
    "best_score": -1.0,
}


class _Cascade:
    """The nodes of the graph."""

    def __init__(self, kit: Kit, options: CascadeOptions) -> None:
        team = [one.name for one in require_team(kit.agent, 2 if options.judge else 1)]
        self._levels = options.levels or tuple(name for name in team if name != options.judge)
        self._kit = _telling(kit) if options.confidence == "logprobs" else kit
        self._options = options
        self._limit = asyncio.Semaphore(options.parallel)

    async def begin(self, state: CascadeState) -> CascadeState:
        """What the levels see of the conversation."""
        return {"shown": [*await self._kit.shown(self._options.history, state["messages"][:-1])]}

    async def answer(self, state: CascadeState) -> Command[Any]:
        """Let the level answer, and have others of its answers made where they are compared."""
        level, task = state["level"], task_of(state["messages"])
        is_last = level + 1 == len(self._levels)
        report = await _answer(self._kit, self._levels[level], task, state["shown"])
        if is_last or report.is_error:
            best = state["best"] if report.is_error else None
            return self._ended(best or report.message) if is_last else _escalated(state)
        update: CascadeState = {
            "answer": report.message,
            "probability": report.confidence,
            "samples": EMPTY,
        }
        if self._options.confidence != "agreement":
            return Command(update=update, goto="doubt")
        tries = [
            Send("sample", Again(level=level, number=number, task=task, history=state["shown"]))
            for number in range(1, self._options.samples)
        ]
        return Command(update=update, goto=tries)

    async def sample(self, state: Again) -> CascadeState:
        """Another answer of the level."""
        name = self._levels[state["level"]]
        kit = _varied(self._kit, name, state["number"], self._options.temperature)
        async with self._limit:
            report = await apart(lambda: _answer(kit, name, state["task"], state["history"]))
            is_lost = report.is_error
            said = None if is_lost else await answer_in(kit, self._options, report.message)
        return {"samples": [said]}

    async def doubt(self, state: CascadeState) -> Command[Any]:
        """Answer, or escalate."""
        answer = state["answer"]
        assert answer is not None
        score = await self._score(state, answer)
        if score is not None and score >= self._options.threshold:
            return self._ended(answer)
        rank = score or 0.0
        if rank < state["best_score"]:
            return _escalated(state)
        return _escalated(state, best=answer, best_score=rank)

    async def _score(self, state: CascadeState, answer: AIMessage) -> float | None:
        """How sure the answer is, from 0 to 1; ``None``: nobody knows."""
        match self._options.confidence:
            case "logprobs":
                return state["probability"]
            case "agreement":
                return await self._agreement(answer, state["samples"])
            case "judge":
                judge = Role(self._kit, self._options.judge)
                asked = prompt(_JUDGE, framed("answer", str(answer.text)), of=[answer])
                given = await judge.decide(state["messages"], asked, Verdict)
                return given.score / POINTS if given else None

    async def _agreement(self, answer: AIMessage, others: list[str | None]) -> float | None:
        said = await answer_in(self._kit, self._options, answer)
        return None if said is None else (1 + others.count(said)) / (1 + len(others))

    def _ended(self, answer: AIMessage) -> Command[Any]:
        return Command(update={"messages": [answer]}, goto=END)


class Verdict(BaseModel):
    """What a judge gives for an answer."""

    score: int = Field(ge=0, le=POINTS, description="Points.")


async def _answer(kit: Kit, name: str, task: str, shown: Sequence[BaseMessage]) -> Report:
    """The answer of a level, which has the type of the agent's."""
    return await kit.work(name, task, history=shown, returns=kit.agent.returns)


def _escalated(state: CascadeState, **more: Any) -> Command[Any]:
    return Command(update={"level": state["level"] + 1, **more}, goto="answer")


def _telling(kit: Kit) -> Kit:
    """The kit whose workers' models tell how probable their tokens are."""
    return _with_sampling(kit, {one.name: _asking(one) for one in kit.team})


def _asking(agent: Agent) -> dict[str, Any]:
    return {"logprobs": agent.sampling.logprobs or 0}


def _varied(kit: Kit, name: str, number: int, temperature: float | None) -> Kit:
    """The kit whose worker of that name samples otherwise in each try."""
    own = next(one.sampling for one in kit.team if one.name == name)
    warmth = own.temperature if temperature is None else temperature
    return _with_sampling(kit, {name: {"temperature": warmth, "seed": (own.seed or 0) + number}})


def _with_sampling(kit: Kit, fields: dict[str, dict[str, Any]]) -> Kit:
    team = tuple(
        one.model_copy(
            update={"sampling": one.sampling.model_copy(update=fields.get(one.name, {}))}
        )
        for one in kit.team
    )
    agent = kit.agent.model_copy(update={"agents": team})
    return replace(kit, agent=agent, services=replace(kit.services, agent=agent))


def build(kit: Kit, options: CascadeOptions) -> Graph:
    """The graph over the kit's team."""
    nodes = _Cascade(kit, options)
    graph = StateGraph(CascadeState)
    graph.add_node("begin", nodes.begin)
    graph.add_node("answer", nodes.answer, destinations=("sample", "doubt", "answer", END))
    graph.add_node("sample", nodes.sample, input_schema=Again)
    graph.add_node("doubt", nodes.doubt, destinations=("answer", END))
    graph.add_edge(START, "begin")
    graph.add_edge("begin", "answer")
    graph.add_edge("sample", "doubt")
    return graph


def equip(agent: Agent, options: CascadeOptions) -> Agent:
    """The agent, if it has members to ask besides the judge."""
    require_team(agent, 2 if options.judge else 1)
    return agent


PATTERN = Pattern(
    name="cascade",
    summary="The cheap member answers first, a dearer one where it is not sure enough.",
    source="Chen et al. 2023, FrugalGPT, arXiv:2305.05176; Madaan et al. 2023, AutoMix, "
    "arXiv:2310.12963",
    options=CascadeOptions,
    build=build,
    equip=equip,
    fresh=FRESH,
)
