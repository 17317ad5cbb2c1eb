"""Routing: one decision says who of the team answers a request.

Anthropic, "Building effective agents" (2024), workflow: routing; for cheap and dear models:
RouteLLM (Ong et al. 2024, arXiv:2406.18665).

    START ─► route ─► answer ─► END

It ends after one decision and at most two answers: for who was chosen and fails the default stands
in, once. Why that fails too is the answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel, Field

from corral.agents.history import History
from corral.agents.kit import Kit
from corral.agents.patterns.choice import one_of
from corral.agents.patterns.contract import Graph, Pattern
from corral.agents.patterns.options import Options
from corral.agents.patterns.prompts import ELSE, described, prompt, task_of
from corral.agents.patterns.state import PatternState
from corral.agents.patterns.team import require_team
from corral.agents.spec import Agent

_WHO = "Decide who answers the request. Do not answer it. Give the name of the one who fits best."
_ITSELF = ""


class RouterOptions(Options):
    """The options of routing."""

    default: str = Field(
        default="",
        description="The sub-agent that answers when nobody can be chosen, or who was chosen "
        "fails; the agent itself when left out.",
    )
    itself: bool = Field(default=True, description="Whether the agent itself can be chosen.")
    history: History = Field(
        default="all", description="What the chosen one sees of the conversation before."
    )

    def members(self) -> Iterator[str]:
        """The default."""
        yield from filter(None, (self.default,))


class RouterState(PatternState, total=False):
    """``chosen`` is who answers; empty for the agent itself."""

    chosen: str


class _Router:
    """The nodes of the graph."""

    def __init__(self, kit: Kit, options: RouterOptions) -> None:
        self._kit = kit
        self._options = options
        self._team = {one.name: one.description for one in require_team(kit.agent)}
        self._known = {**({kit.agent.name: ELSE} if options.itself else {}), **self._team}

    async def route(self, state: RouterState) -> RouterState:
        """Decide who answers, where there is a choice."""
        if len(self._known) == 1:
            return {"chosen": next(iter(self._known))}
        messages = [*state["messages"], prompt(_WHO, described(self._known))]
        route = await self._kit.decide(messages, one_of(Route, "agent", self._known))
        if route is None:
            return {"chosen": self._options.default}
        return {"chosen": route.agent if route.agent in self._team else _ITSELF}

    async def answer(self, state: RouterState) -> RouterState:
        """The answer of the one who was chosen."""
        return {"messages": [await self._answered(state["chosen"], state["messages"])]}

    async def _answered(self, chosen: str, messages: list[AnyMessage]) -> AIMessage:
        if chosen == _ITSELF:
            return await self._kit.solve(messages)
        history = await self._kit.shown(self._options.history, messages[:-1])
        returns = self._kit.agent.returns
        report = await self._kit.work(chosen, task_of(messages), history=history, returns=returns)
        if report.is_error and chosen != self._options.default:
            return await self._answered(self._options.default, messages)
        return report.message


class Route(BaseModel):
    """Who answers."""

    agent: str


def build(kit: Kit, options: RouterOptions) -> Graph:
    """The graph over the kit's team."""
    nodes = _Router(kit, options)
    graph = StateGraph(RouterState)
    graph.add_node("route", nodes.route)
    graph.add_node("answer", nodes.answer)
    graph.add_edge(START, "route")
    graph.add_edge("route", "answer")
    graph.add_edge("answer", END)
    return graph


def equip(agent: Agent, _options: RouterOptions) -> Agent:
    """The agent, if it has a team to choose from."""
    require_team(agent)
    return agent


PATTERN = Pattern(
    name="router",
    summary="One decision says who of the team answers.",
    source='Anthropic 2024, "Building effective agents"; Ong et al. 2024, RouteLLM, '
    "arXiv:2406.18665",
    options=RouterOptions,
    build=build,
    equip=equip,
    fresh={"chosen": ""},
)
