"""A network: agents hand the conversation to one another, and whoever has it answers.

OpenAI's Swarm (2024), routines and handoffs; LangGraph's swarm, in which the one who answered last
stays active; AutoGen (Wu et al. 2023, arXiv:2308.08155) for conversations among equals.

    START ─► the active one ─► (handoff) another ─► … ─► END

A handoff is LangGraph's ``Command``: who is to go on, and what they are told. ``routes`` says who
may hand over to whom. It ends when somebody answers. After ``handoffs`` of them in one run the
active one has nobody to hand over to, and must answer. Who fails gives back to the one it came
from; where there is none, why it failed is the answer. A member whose pattern has no place for a
handoff decides before it begins (``corral.agents.patterns.takeover``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Protocol, cast

from langchain_core.messages import AnyMessage, BaseMessage
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from pydantic import Field

from corral.agents.history import History
from corral.agents.kit import Kit, Report
from corral.agents.patterns.contract import Graph, Pattern
from corral.agents.patterns.options import Options
from corral.agents.patterns.prompts import task_of
from corral.agents.patterns.state import EMPTY, PatternState, gathered
from corral.agents.patterns.team import require_team, without_tools
from corral.agents.spec import Agent
from corral.errors import ConfigError

_FAILED = "{name} could not do this, so it is yours again:\n{task}\n\nWhat went wrong:\n{why}"
_NO_NODE = frozenset("|:/#[]")
"""Characters that names of nodes have no room for."""


class NetworkOptions(Options):
    """The options of a network."""

    routes: dict[str, tuple[str, ...]] | None = Field(
        default=None,
        description="Who may hand over to whom: by name, a list of names. Who is not there hands "
        "over to nobody. Left out: everybody to everybody.",
    )
    start: str = Field(default="", description="Who begins a thread; the first when left out.")
    stay: bool = Field(
        default=True, description="Whether a thread's next prompt goes to the one who answered."
    )
    history: History = Field(
        default="all", description="What the one who takes over sees of the conversation."
    )
    handoffs: int = Field(default=6, ge=1, le=100, description="Handoffs in one run at most.")

    def members(self) -> Iterator[str]:
        """Who begins, and who is in the routes."""
        yield from filter(None, (self.start,))
        for name, others in (self.routes or {}).items():
            yield from (name, *others)


class NetworkState(PatternState, total=False):
    """``active`` is who has the conversation; it stays with the thread.

    ``talk`` is what was said in this run by those who handed over, ``task`` what the active one is
    told, and ``came_from`` who told it, of all ``handoffs`` so far the last.
    """

    active: str
    talk: Annotated[list[AnyMessage], gathered]
    task: str
    came_from: str
    handoffs: int


class Node(Protocol):
    """A member's node: who is next, or the end."""

    async def __call__(self, state: NetworkState) -> Command[Any]:
        """Let the member work."""
        ...


class _Network:
    """The nodes of the graph: one for each member."""

    def __init__(self, kit: Kit, options: NetworkOptions) -> None:
        self._kit = kit
        self._options = options
        self._when = {member.name: member.description for member in kit.team}
        self.names = tuple(self._when)
        self.start = options.start or self.names[0]

    def begin(self, state: NetworkState) -> str:
        """Who has the conversation when a run begins."""
        active = state.get("active", "")
        return active if self._options.stay and active in self._when else self.start

    def may_follow(self, name: str) -> dict[str, str]:
        """To whom somebody may hand over, and what for."""
        routes = self._options.routes
        others = self.names if routes is None else routes.get(name, ())
        return {other: self._when[other] for other in others if other != name}

    def member(self, name: str) -> Node:
        """The node of a member: it answers, or hands over."""

        async def act(state: NetworkState) -> Command[Any]:
            left = state["handoffs"] < self._options.handoffs
            may = self.may_follow(name) if left else {}
            task = state["task"] or task_of(state["messages"])
            history = await self._history(state)
            report = await self._kit.work(
                name, task, history=history, returns=self._kit.agent.returns, handoffs=may
            )
            handoff = report.handoff
            if handoff is not None and handoff.to in may:
                return self._over(state, report, handoff.to, handoff.message)
            back = state["came_from"]
            if report.is_error and back and left:
                told = _FAILED.format(name=name, task=task, why=report.text)
                return self._over(state, report, back, told)
            active = state.get("active", "") if report.is_error else name
            return Command(update={"messages": [report.message], "active": active}, goto=END)

        return act

    def _over(self, state: NetworkState, report: Report, to: str, told: str) -> Command[Any]:
        """Let another go on. What a member failed with is told, and not said in the talk."""
        said = [report.message] if report.text and not report.is_error else []
        update: NetworkState = {
            "talk": cast("list[AnyMessage]", said),
            "task": told if told.strip() else task_of(state["messages"]),
            "came_from": report.agent if not report.is_error else "",
            "handoffs": state["handoffs"] + 1,
        }
        return Command(update=update, goto=to)

    async def _history(self, state: NetworkState) -> Sequence[BaseMessage]:
        """What the active one sees before its task; of the request itself only who took over."""
        messages, history = state["messages"], self._options.history
        if state["task"]:
            return await self._kit.shown(history, [*messages, *state["talk"]])
        before = messages[:-1]
        return await self._kit.shown(history, before) if before and history != "task" else ()


def build(kit: Kit, options: NetworkOptions) -> Graph:
    """The graph over the kit's team."""
    nodes = _Network(kit, options)
    graph = StateGraph(NetworkState)
    for name in nodes.names:
        goes_to = tuple(dict.fromkeys((*nodes.may_follow(name), *_before(nodes, name), END)))
        graph.add_node(name, nodes.member(name), destinations=goes_to)
    graph.add_conditional_edges(START, nodes.begin, list(nodes.names))
    return graph


def _before(nodes: _Network, name: str) -> Iterator[str]:
    """Who can hand over to somebody, and gets it back when that one fails."""
    return (other for other in nodes.names if name in nodes.may_follow(other))


def equip(agent: Agent, _options: NetworkOptions) -> Agent:
    """The agent: its members work, and it has no use for tools itself."""
    for member in require_team(agent):
        if _NO_NODE & set(member.name):
            raise ConfigError(
                f"The name {member.name!r} of a member of {agent.name!r} has a character that the "
                f"name of a node may not have.",
                hint=f"Give it a name without any of {' '.join(sorted(_NO_NODE))}.",
            )
    return without_tools(agent)


PATTERN = Pattern(
    name="network",
    summary="Agents hand the conversation to one another, and whoever has it answers.",
    source="OpenAI 2024, Swarm; LangGraph's swarm; Wu et al. 2023, AutoGen, arXiv:2308.08155",
    options=NetworkOptions,
    build=build,
    fresh={"talk": EMPTY, "task": "", "came_from": "", "handoffs": 0},
    equip=equip,
)
