"""Best of n: several independent tries, each scored, of which the best is the answer.

Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems", arXiv:2110.14168; scores of
steps: Lightman et al. 2023, "Let's Verify Step by Step", arXiv:2305.20050.

    START ─► draw ─► sample (one task per try) ─► weigh ─► score (one task per new answer)
             │  ▲                                                    │
             ▼  └────────────────────────────────────────────────────┘
            END

It ends after ``samples`` tries, or with ``enough`` once an answer has that score; then they are
made in waves of ``parallel``. Equal answers are scored once. The best score wins, of equal ones the
first; an answer without a readable score is worse than any that has one.
"""

from __future__ import annotations

import asyncio
import math
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send
from pydantic import Field, model_validator

from corral.agents.kit import Kit
from corral.agents.patterns.contract import Graph, Pattern
from corral.agents.patterns.prompts import framed, prompt, task_of
from corral.agents.patterns.roles import Role
from corral.agents.patterns.sampling import (
    Sample,
    SamplingOptions,
    Try,
    answered,
    apart,
    sampled,
    varied,
)
from corral.agents.patterns.state import EMPTY, PatternState, gathered
from corral.agents.patterns.verifying import Score, Verifier, VerifierOptions, shares

_JUDGE = "How likely is it that this answer to the request is right? Do not answer the request."
_JUDGE_STEPS = (
    "Here are the {count} steps of an answer to the request. How likely is it for each of them "
    "that it is right? Give {count} scores, in their order."
)
_MOST_STEPS = 20


class BestOfNOptions(SamplingOptions, VerifierOptions):
    """The options of best of n."""

    samples: int = Field(default=4, ge=1, le=64, description="Tries at most.")
    scores: Literal["answer", "steps"] = Field(
        default="answer", description="What is scored: the whole answer, or each line of it."
    )
    aggregate: Literal["min", "product", "mean"] = Field(
        default="product", description="What the scores of steps are together."
    )
    enough: float | None = Field(
        default=None, ge=0, le=1, description="A score after which no further try is made."
    )

    @model_validator(mode="after")
    def _check_scores(self) -> BestOfNOptions:
        if self.verifier and self.scores == "steps":
            raise ValueError("a verifier scores whole answers: leave out scores, or the verifier")
        return self


class Scored(TypedDict):
    """The score of all samples with this text; ``None``: it could not be read."""

    text: str
    score: float | None


class ScoreTask(TypedDict):
    """The input of scoring one sample."""

    sample: AIMessage
    messages: list[AnyMessage]


class State(PatternState, total=False):
    """The samples in the order of the tries, and the scores of their texts."""

    samples: Annotated[list[Sample], gathered]
    scores: Annotated[list[Scored], gathered]


class _BestOfN:
    """The nodes of the graph."""

    def __init__(self, kit: Kit, options: BestOfNOptions) -> None:
        self._kit = kit
        self._options = options
        self._limit = asyncio.Semaphore(options.parallel)

    async def draw(self, state: State) -> Command[Any]:
        """Make the next tries, or give the best."""
        options, samples = self._options, state.get("samples", [])
        left = options.samples - len(samples)
        if options.enough is not None:
            is_enough = any((s["score"] or 0) >= options.enough for s in _read(state))
            left = 0 if is_enough else min(left, options.parallel)
        if not left:
            answer = await answered(self._kit, state["messages"], _best(samples, state))
            return Command(update={"messages": [answer]}, goto=END)
        tries = range(len(samples), len(samples) + left)
        return Command(
            goto=[Send("sample", Try(index=i, messages=state["messages"])) for i in tries]
        )

    async def sample(self, state: Try) -> State:
        """One try."""
        one = varied(self._kit, state["index"], self._options.temperature)
        async with self._limit:
            return {"samples": [await sampled(one, state["messages"])]}

    async def weigh(self, state: State) -> Command[Any]:
        """Have those scored that say what none before has said."""
        known = {scored["text"] for scored in state.get("scores", [])}
        new: dict[str, AIMessage] = {}
        for message in _messages(state["samples"]):
            if str(message.text) not in known:
                new.setdefault(str(message.text), message)
        if not new:
            return Command(goto="draw")
        messages = state["messages"]
        return Command(
            goto=[Send("score", ScoreTask(sample=m, messages=messages)) for m in new.values()]
        )

    async def score(self, state: ScoreTask) -> State:
        """Score one answer."""
        text = str(state["sample"].text)
        async with self._limit:
            score = await apart(lambda: self._score(state, text)) if text.strip() else None
        return {"scores": [Scored(text=text, score=score)]}

    async def _score(self, task: ScoreTask, text: str) -> float | None:
        kit, options, messages = self._kit, self._options, task["messages"]
        if options.verifier:
            return await Verifier(kit, options.verifier).score(task_of(messages), text)
        critic, of = Role(kit, options.critic), [*messages, task["sample"]]
        if options.scores == "answer":
            asked = prompt(_JUDGE, framed("answer", text), of=of)
            given = await critic.decide(messages, asked, Score)
            return given.score if given else None
        steps = steps_of(text)
        numbered = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
        count = len(steps)
        asked = prompt(_JUDGE_STEPS.format(count=count), framed("steps", numbered), of=of)
        scores = await critic.decide(messages, asked, shares(count))
        return together(scores, options.aggregate) if scores else None


def steps_of(text: str) -> list[str]:
    """The steps of an answer: its lines, the last ones as one where there are many."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first, rest = lines[: _MOST_STEPS - 1], lines[_MOST_STEPS - 1 :]
    return [*first, *([" ".join(rest)] if rest else [])]


def together(scores: list[float], aggregate: Literal["min", "product", "mean"]) -> float:
    """The score of an answer of the scores of its steps."""
    match aggregate:
        case "min":
            return min(scores)
        case "product":
            return math.prod(scores)
        case "mean":
            return sum(scores) / len(scores)


def _messages(samples: list[Sample]) -> list[AIMessage]:
    return [sample["message"] for sample in samples if sample["message"] is not None]


def _read(state: State) -> list[Scored]:
    return [scored for scored in state.get("scores", []) if scored["score"] is not None]


def _best(samples: list[Sample], state: State) -> AIMessage | None:
    scores = {scored["text"]: scored["score"] for scored in _read(state)}

    def rank(message: AIMessage) -> float:
        score = scores.get(str(message.text))
        return -1.0 if score is None else score

    return max(_messages(samples), key=rank, default=None)


def build(kit: Kit, options: BestOfNOptions) -> Graph:
    """The graph."""
    nodes = _BestOfN(kit, options)
    graph = StateGraph(State)
    graph.add_node("draw", nodes.draw, destinations=("sample", END))
    graph.add_node("sample", nodes.sample, input_schema=Try)
    graph.add_node("weigh", nodes.weigh, destinations=("score", "draw"))
    graph.add_node("score", nodes.score, input_schema=ScoreTask)
    graph.add_edge(START, "draw")
    graph.add_edge("sample", "weigh")
    graph.add_edge("score", "draw")
    return graph


PATTERN = Pattern(
    name="best_of_n",
    summary="Several independent tries; the one with the best score.",
    source="Cobbe et al. 2021, Training Verifiers, arXiv:2110.14168; Lightman et al. 2023, Let's "
    "Verify Step by Step, arXiv:2305.20050",
    options=BestOfNOptions,
    build=build,
    fresh={"samples": EMPTY, "scores": EMPTY},
)
