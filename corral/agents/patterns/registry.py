"""All patterns by name, and the options that an agent gives its own."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

from langgraph.graph import END, START, StateGraph
from pydantic import ValidationError

from corral.agents.kit import Kit
from corral.agents.patterns import (
    best_of_n,
    budget_forcing,
    cascade,
    debate,
    mcts,
    network,
    orchestrator,
    plan_execute,
    react,
    reflection,
    router,
    self_consistency,
    tree_of_thoughts,
)
from corral.agents.patterns.contract import Graph, Pattern
from corral.agents.patterns.options import Options
from corral.agents.patterns.state import PatternState
from corral.agents.patterns.supervisor.pattern import HIERARCHICAL, SUPERVISOR
from corral.agents.services import AgentServices
from corral.agents.spec import Agent
from corral.errors import ConfigError
from corral.jsontypes import Json
from corral.runtime.nested import subgraph

PATTERNS: dict[str, Pattern] = {
    pattern.name: pattern
    for pattern in (
        react.PATTERN,
        reflection.PATTERN,
        plan_execute.PATTERN,
        orchestrator.PATTERN,
        SUPERVISOR,
        HIERARCHICAL,
        network.PATTERN,
        debate.PATTERN,
        self_consistency.PATTERN,
        best_of_n.PATTERN,
        tree_of_thoughts.PATTERN,
        mcts.PATTERN,
        budget_forcing.PATTERN,
        router.PATTERN,
        cascade.PATTERN,
    )
}
"""The patterns, by the name that an agent gives as its ``pattern``."""


def find_pattern(name: str) -> Pattern:
    """A pattern by name. Raises ``ConfigError``."""
    if name in PATTERNS:
        return PATTERNS[name]
    near = difflib.get_close_matches(name, PATTERNS, 1)
    hint = f"Did you mean {near[0]!r}?" if near else f"The patterns are: {', '.join(PATTERNS)}."
    raise ConfigError(f"There is no pattern {name!r}.", hint=hint)


def read_options(agent: Agent) -> Options:
    """The options of an agent's pattern. Raises ``ConfigError`` that says what is wrong with them.

    The agent's team is complete by then.
    """
    pattern = find_pattern(agent.pattern)
    if agent.graph is not None and (agent.pattern != react.NAME or agent.options):
        raise ConfigError(
            f"The agent {agent.name!r} has a graph of its own and a pattern.",
            hint="Leave out `pattern` and `options`, or the graph.",
        )
    try:
        options = pattern.options.model_validate(agent.options)
    except ValidationError as error:
        raise ConfigError(
            f"The options of the agent {agent.name!r} do not fit the pattern {pattern.name}: "
            f"{_first_problem(error)}.",
            hint=_about_options(error, tuple(pattern.options.model_fields)),
        ) from error
    team = [member if isinstance(member, str) else member.name for member in agent.agents]
    for name in options.members():
        if name not in team:
            raise ConfigError(
                f"The agent {agent.name!r} names {name!r} in its options, which is not in its "
                "team.",
                hint=f"Add {name!r} to its `agents`. They are: {', '.join(team) or 'none'}.",
            )
    pattern.equip(agent, options)  # which raises for a team that it cannot work with
    return options


def pattern_graph(kit: Kit, name: str, **options: Json) -> Graph:
    """A pattern as a graph, to be a node of another or to be given to ``corral.subgraph``.

    It works as the agent of the kit: with its model, tools and team. Of its state only ``messages``
    are shared, to which it adds its answer. Raises ``ConfigError``.
    """
    pattern = find_pattern(name)
    agent = kit.agent.model_copy(update={"pattern": name, "options": options, "graph": None})
    given = read_options(agent)
    inner = pattern.build(equipped(replace(kit, agent=agent), pattern, given), given)

    async def work(state: PatternState) -> PatternState:
        ended = await subgraph(inner, {**pattern.fresh, "messages": state["messages"]})
        return {"messages": ended["messages"][-1:]}

    graph = StateGraph(PatternState)
    graph.add_node(name, work)
    graph.add_edge(START, name)
    graph.add_edge(name, END)
    return graph


def equipped(kit: Kit, pattern: Pattern, options: Options) -> Kit:
    """The kit of an agent with what its pattern needs, and no handoffs that it could not make."""
    able = kit.agent if pattern.hands_over else _without_handoffs(kit.agent)
    agent = pattern.equip(able, options)
    services = replace(kit.services, agent=agent, roles=frozenset(options.roles()))
    return Kit(agent, services)


def own_kit(agent: Agent, services: AgentServices) -> Kit:
    """The kit of an agent with a graph of its own, which makes no handoffs on its way."""
    alone = _without_handoffs(agent)
    return Kit(alone, replace(services, agent=alone, roles=frozenset()))


def _without_handoffs(agent: Agent) -> Agent:
    return agent.model_copy(update={"handoffs": {}})


def _about_options(error: ValidationError, known: Sequence[str]) -> str:
    """What to write instead of the first problem."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), known, 1)
        if near:
            return f"Did you mean {near[0]!r}?"
    return f"Its options are: {', '.join(known) or 'none'}."


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
