"""A supervisor: a coordinator gives tasks to workers, several at once, and answers from what they
report. ``hierarchical`` is the same for teams of teams: whoever has a team coordinates it.

AutoGen (Wu et al. 2023, arXiv:2308.08155), the group chat with a manager; LangGraph's supervisor,
whose workers are tools or take over; Anthropic, "How we built our multi-agent research system"
(2025), whose workers run in parallel and see a task instead of the conversation.

    START ─► coordinate ─► work (one task per call) ─► coordinate ─► … ─► END

A worker is a tool of the coordinator's. With ``handoffs`` it can also take over: its answer is then
the user's, word for word. A coordinator that is bad at calling tools is asked for a decision
instead, one worker at a time (``routing``).

It ends when the coordinator answers, when a worker that took over has, and after ``rounds`` turns,
in the last of which the coordinator gets no tools. One turn makes ``calls`` calls, and a run gives
``tasks`` tasks: what is more gets an error as its result. Deciding ends at a decision that is not
valid, or the same as the one before. A worker that fails is a result that the coordinator acts on.
"""

from __future__ import annotations

from langgraph.graph import END, START, StateGraph

from corral.agents.kit import Kit
from corral.agents.patterns.contract import Graph, Pattern
from corral.agents.patterns.supervisor.by_decision import FINISH, Assigned, ByDecision
from corral.agents.patterns.supervisor.by_tools import ByTools, Work
from corral.agents.patterns.supervisor.options import FRESH, SupervisorOptions, SupervisorState
from corral.agents.patterns.team import require_team, without_tools
from corral.agents.spec import Agent
from corral.errors import ConfigError


def build(kit: Kit, options: SupervisorOptions) -> Graph:
    """The graph of a coordinator over the kit's team."""
    goes_to = ("coordinate", "work", END)
    graph = StateGraph(SupervisorState)
    if options.routing == "decision":
        decided = ByDecision(kit, options)
        graph.add_node("coordinate", decided.coordinate, destinations=goes_to)
        graph.add_node("work", decided.work, input_schema=Assigned)
    else:
        called = ByTools(kit, options)
        graph.add_node("coordinate", called.coordinate, destinations=goes_to)
        graph.add_node("work", called.work, input_schema=Work)
    graph.add_edge(START, "coordinate")
    graph.add_edge("work", "coordinate")
    return graph


def equip(agent: Agent, options: SupervisorOptions) -> Agent:
    """The agent, whose workers may take over or answer for it where the options say so."""
    team = require_team(agent)
    if options.answer == "worker" and agent.returns is not None:
        team = tuple(one.model_copy(update={"returns": agent.returns}) for one in team)
        agent = agent.model_copy(update={"agents": team})
    if options.routing == "decision" and any(one.name == FINISH for one in team):
        raise ConfigError(
            f"A sub-agent of {agent.name!r} is called {FINISH!r}, which its coordinator decides "
            "for when it is done.",
            hint='Give it another name, or write routing = "tools".',
        )
    if options.routing == "decision":
        return without_tools(agent)
    if not options.handoffs:
        return agent
    mine = {one.name: one.description for one in team}
    return agent.model_copy(update={"handoffs": {**agent.handoffs, **mine}})


def equip_levels(agent: Agent, options: SupervisorOptions) -> Agent:
    """The agent, with every member that has a team itself and no other pattern as such a one."""
    pattern = {"pattern": HIERARCHICAL.name, "options": agent.options}

    def level(member: Agent | str) -> Agent | str:
        if isinstance(member, str) or not member.agents or member.graph is not None:
            return member
        return member.model_copy(update=pattern) if member.pattern == "react" else member

    levels = tuple(map(level, agent.agents))
    return equip(agent.model_copy(update={"agents": levels}), options)


SUPERVISOR = Pattern(
    name="supervisor",
    summary="A coordinator gives tasks to workers and answers from what they report.",
    source="Wu et al. 2023, AutoGen, arXiv:2308.08155; LangGraph's supervisor",
    options=SupervisorOptions,
    build=build,
    fresh=FRESH,
    equip=equip,
    hands_over=True,
)

HIERARCHICAL = Pattern(
    name="hierarchical",
    summary="Supervisors of supervisors: whoever has a team coordinates it.",
    source="Wu et al. 2023, AutoGen, arXiv:2308.08155; LangGraph's hierarchical agent teams",
    options=SupervisorOptions,
    build=build,
    fresh=FRESH,
    equip=equip_levels,
    hands_over=True,
)
