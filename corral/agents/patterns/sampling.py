"""Several tries at one task: asked so that they differ, and lost one by one when they fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypedDict, TypeVar

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langgraph.graph import START
from pydantic import Field

from corral.agents.kit import Kit
from corral.agents.patterns.options import Options
from corral.errors import CheckFailed, ModelError, SandboxError, ToolServerError
from corral.runtime.nested import empty_graph, subgraph

T = TypeVar("T")


class SamplingOptions(Options):
    """How tries are sampled."""

    temperature: float | None = Field(
        default=0.7, ge=0, le=2, description="Of the tries; the agent's own when null."
    )
    parallel: int = Field(default=4, ge=1, le=64, description="Tries that are made at once.")


class Try(TypedDict):
    """The input of one try: its number, and what it is asked."""

    index: int
    messages: list[AnyMessage]


class Sample(TypedDict):
    """What came of one try: an answer, or ``None`` where it failed."""

    message: AIMessage | None


def varied(kit: Kit, index: int, temperature: float | None) -> Kit:
    """The kit, asking its model with the seed of the try ``index``.

    A request with another seed is another one, also to the response cache.
    """
    own = kit.agent.sampling
    warmth = own.temperature if temperature is None else temperature
    seeded = own.model_copy(update={"temperature": warmth, "seed": (own.seed or 0) + index})
    return replace(kit, agent=kit.agent.model_copy(update={"sampling": seeded}))


async def sampled(kit: Kit, messages: Sequence[BaseMessage]) -> Sample:
    """Let the agent solve it.

    A model, a tool server or an answer that fails costs this try alone, unless a check says that
    it ends the run.
    """
    try:
        return Sample(message=await kit.solve(messages, aloud=False))
    except (ModelError, ToolServerError, SandboxError):
        return Sample(message=None)
    except CheckFailed as refused:
        if refused.ends_run:
            raise
        return Sample(message=None)


async def answered(
    kit: Kit, messages: Sequence[BaseMessage], chosen: AIMessage | None
) -> AIMessage:
    """The chosen message. Where all tries have failed there is none: it is asked for once more.

    Raises why that fails too; the run can then be resumed.
    """
    return chosen or await kit.solve(messages)


class _Apart(TypedDict):
    given: Any


async def apart(work: Callable[[], Awaitable[T]]) -> T:
    """What ``work`` gives, done in a graph inside of this branch, so that it is a conversation.

    A verifier that says no to ten answers, or a debater who is asked again, is no model that goes
    round in circles: what other branches have done does not count here.
    """

    async def node(state: _Apart) -> _Apart:
        del state
        return {"given": await work()}

    graph = empty_graph(_Apart)
    graph.add_node("work", node)
    graph.add_edge(START, "work")
    given: T = (await subgraph(graph, {"given": None}))["given"]
    return given
