"""Handoffs of an agent whose graph makes none itself: it decides before it begins.

    START ─► decide ─► work (its own graph) ─► END
                └─► END (another takes over)

A ReAct loop and a coordinator hand over by a tool call on the way. What votes, searches or plans
has no such place, so its agent is asked first who goes on. A decision that is not valid, or that a
rule or a human refuses, is one for the agent itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from pydantic import BaseModel, Field

from corral.agents.handoff import first
from corral.agents.kit import Kit
from corral.agents.patterns.choice import one_of
from corral.agents.patterns.contract import Graph
from corral.agents.patterns.prompts import described, prompt
from corral.agents.patterns.state import PatternState
from corral.jsontypes import JsonObject
from corral.runtime.nested import subgraph

_WHO = (
    "Decide who goes on with this: {name}, which is you, or one of the others, who then takes over "
    "from you. Do not answer it. The others:"
)


class TakeoverState(PatternState, total=False):
    """``handoff`` says who takes over."""

    handoff: Annotated[JsonObject | None, first]


class Takeover(BaseModel):
    """Who goes on, and what they are told."""

    to: str
    message: str = Field(default="", max_length=2000, description="What is to be done now.")


def deciding_first(
    kit: Kit, when: Mapping[str, str], graph: Graph, fresh: Mapping[str, Any]
) -> Graph:
    """The graph after the decision, for one of those of ``when``, which says what each is for.

    ``fresh`` are the values that the graph's own channels begin with.
    """
    name = kit.agent.name
    choice = one_of(Takeover, "to", (name, *when))
    asked = prompt(_WHO.format(name=name), described(when))

    async def decide(state: TakeoverState) -> Command[str]:
        decided = await kit.decide([*state["messages"], asked], choice)
        if decided is None or decided.to == name:
            return Command(goto="work")
        handoff = await kit.hand_over(decided.to, decided.message)
        if handoff is None:
            return Command(goto="work")
        return Command(update={"handoff": handoff.to_json()}, goto=END)

    async def work(state: TakeoverState) -> TakeoverState:
        before = state["messages"]
        ended = await subgraph(graph, {**fresh, "messages": before})
        return {"messages": ended["messages"][len(before) :]}

    outer = StateGraph(TakeoverState)
    outer.add_node("decide", decide, destinations=("work", END))
    outer.add_node("work", work)
    outer.add_edge(START, "decide")
    outer.add_edge("work", END)
    return outer
