"""Self-consistency: the answer that most of several independent tries agree on.

Wang et al. 2022, "Self-Consistency Improves Chain of Thought Reasoning in Language Models",
arXiv:2203.11171.

    START ─► count ─► sample (one task per try) ─► count ─► … ─► END

It ends after ``samples`` tries, or with ``early_stop`` as soon as those that are left cannot change
the majority: each wave has as many tries as could decide it. The first message that gave the
winning answer is the answer; without any vote, the first message.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send
from pydantic import Field

from corral.agents.kit import Kit
from corral.agents.patterns.answers import AnswerOptions, answer_in, majority, to_decide
from corral.agents.patterns.contract import Graph, Pattern
from corral.agents.patterns.sampling import (
    Sample,
    SamplingOptions,
    Try,
    answered,
    sampled,
    varied,
)
from corral.agents.patterns.state import EMPTY, PatternState, gathered


class SelfConsistencyOptions(AnswerOptions, SamplingOptions):
    """The options of self-consistency."""

    samples: int = Field(default=5, ge=1, le=64, description="Tries at most.")
    early_stop: bool = Field(
        default=True, description="Whether it ends when the majority cannot change any more."
    )


class Vote(Sample):
    """A try, and the answer that it gave, as it is compared."""

    answer: str | None


class State(PatternState, total=False):
    """The votes, in the order of the tries."""

    votes: Annotated[list[Vote], gathered]


def build(kit: Kit, options: SelfConsistencyOptions) -> Graph:
    """The graph."""
    limit = asyncio.Semaphore(options.parallel)

    async def count(state: State) -> Command[Any]:
        votes = state.get("votes", [])
        wave = _wave(votes, options)
        if not wave:
            answer = await answered(kit, state["messages"], _winner(votes))
            return Command(update={"messages": [answer]}, goto=END)
        tries = range(len(votes), len(votes) + wave)
        return Command(
            goto=[Send("sample", Try(index=i, messages=state["messages"])) for i in tries]
        )

    async def sample(state: Try) -> State:
        one = varied(kit, state["index"], options.temperature)
        async with limit:
            made = await sampled(one, state["messages"])
            message = made["message"]
            answer = await answer_in(kit, options, message) if message else None
        return {"votes": [Vote(**made, answer=answer)]}

    graph = StateGraph(State)
    graph.add_node("count", count, destinations=("sample", END))
    graph.add_node("sample", sample, input_schema=Try)
    graph.add_edge(START, "count")
    graph.add_edge("sample", "count")
    return graph


def _wave(votes: list[Vote], options: SelfConsistencyOptions) -> int:
    """How many tries are made next."""
    left = options.samples - len(votes)
    return to_decide([vote["answer"] for vote in votes], left) if options.early_stop else left


def _winner(votes: list[Vote]) -> AIMessage | None:
    index = majority([vote["answer"] for vote in votes])
    if index is not None:
        return votes[index]["message"]
    return next((vote["message"] for vote in votes if vote["message"]), None)


PATTERN = Pattern(
    name="self_consistency",
    summary="Several independent tries; the answer that most of them give.",
    source="Wang et al. 2022, Self-Consistency, arXiv:2203.11171",
    options=SelfConsistencyOptions,
    build=build,
    fresh={"votes": EMPTY},
)
