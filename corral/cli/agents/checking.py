"""What is wrong with agents, as far as it can be told without starting or asking anything."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator

from corral.agents.files.catalog import Catalog, Entry
from corral.agents.files.problems import Problem
from corral.agents.policy_files import agent_layer
from corral.cli.agents.places import line_of
from corral.cli.policy.known import Tools
from corral.errors import CorralError
from corral.runtime.config import Settings
from corral.tools.settings import BUILTIN_SERVERS

_MEMORY = "memory"
_AGENTS = "agents"
_REACT = "react"


def check(entries: Iterable[Entry], catalog: Catalog, settings: Settings) -> list[Problem]:
    """All problems of some agents, each told once."""
    checks = _Checks(catalog, settings)
    found = [
        problem
        for entry in entries
        for problem in (*entry.problems, *(checks.of(entry) if entry.config else ()))
    ]
    return list(dict.fromkeys(found))


class _Checks:
    """What an agent names, looked for."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self._catalog = catalog
        self._settings = settings
        self._tools = Tools(settings).known(()).servers
        self._servers = (*BUILTIN_SERVERS, *settings.mcp, _MEMORY)

    def of(self, entry: Entry) -> Iterator[Problem]:
        """All that is wrong with an agent that could be read."""
        yield from self._of_servers(entry)
        yield from self._of_tools(entry)
        yield from self._of_team(entry)
        yield from self._of_model(entry)
        yield from self._of_policy(entry)
        yield from self._of_pattern(entry)
        yield from self._of_answers(entry)

    def _of_servers(self, entry: Entry) -> Iterator[Problem]:
        for name in entry.require().servers or ():
            if name not in self._servers:
                hint = _near(name, self._servers, "The servers are")
                yield _problem(entry, "servers", f"there is no server {name!r}", hint)

    def _of_tools(self, entry: Entry) -> Iterator[Problem]:
        config = entry.require()
        default = (*self._settings.servers, *self._settings.mcp, _MEMORY)
        offered = config.servers if config.servers is not None else default
        for tool in config.tools or ():
            server, _, name = tool.partition("__")
            own = self._tools.get(server)
            if server == _AGENTS:
                if name not in config.agents:
                    hint = f"Add {name!r} to `agents`."
                    yield _problem(entry, "tools", f"{name!r} is not in its team", hint)
            elif server not in self._servers:
                hint = _near(server, self._servers, "The servers are")
                yield _problem(entry, "tools", f"{tool!r}: there is no server {server!r}", hint)
            elif server not in offered:
                hint = f"Write `servers: [{', '.join((*offered, server))}]`."
                message = f"{tool!r}: the server {server!r} is not offered to it"
                yield _problem(entry, "tools", message, hint)
            elif own is not None and name not in own:
                hint = _near(name, own, f"The tools of {server} are")
                yield _problem(entry, "tools", f"there is no tool {tool!r}", hint)

    def _of_team(self, entry: Entry) -> Iterator[Problem]:
        names = entry.require().agents
        for name in names:
            other = self._catalog.find(name)
            if other is None:
                hint = _near(name, self._catalog.names, "The agents are")
                yield _problem(entry, "agents", f"there is no agent {name!r}", hint)
            elif other.config is None:
                yield _problem(
                    entry,
                    "agents",
                    f"the agent {name!r} cannot be used",
                    f"See: corral agents check {name}",
                )
        if len(set(names)) < len(names):
            yield _problem(entry, "agents", "an agent is named twice", "Name it once.")
        if circle := self._circle(entry.name):
            way = " → ".join(circle)
            hint = "Take it out of the team of one of them."
            yield _problem(entry, "agents", f"it would give tasks to itself: {way}", hint)

    def _circle(self, start: str) -> list[str]:
        """The shortest way through teams from an agent back to it; empty where there is none."""
        came_from: dict[str, str] = {}
        pending = [start]
        for name in pending:
            entry = self._catalog.find(name)
            for member in entry.config.agents if entry is not None and entry.config else ():
                if member == start:
                    return [*_way(came_from, name), start]
                if member not in came_from:
                    came_from[member] = name
                    pending.append(member)
        return []

    def _of_model(self, entry: Entry) -> Iterator[Problem]:
        model = entry.require().model
        if model is not None:
            from corral.cli.models.opening import opened  # langchain-core

            yield from _raised(entry, "model", lambda: opened(model, self._settings))

    def _of_policy(self, entry: Entry) -> Iterator[Problem]:
        policy = entry.require().policy
        if policy is not None:
            yield from _raised(entry, "policy", lambda: agent_layer(policy, (entry.name,)))

    def _of_pattern(self, entry: Entry) -> Iterator[Problem]:
        config = entry.require()
        if config.pattern == _REACT and not config.options:
            return
        from corral.agents.patterns.registry import find_pattern, read_options  # LangGraph
        from corral.agents.spec import Agent

        unknown = list(_raised(entry, "pattern", lambda: find_pattern(config.pattern)))
        yield from unknown
        if not unknown:
            team = tuple(Agent(name=name) for name in config.agents)
            agent = Agent(
                name=entry.name, agents=team, pattern=config.pattern, options=config.options
            )
            key = "options" if config.options else "pattern"
            yield from _raised(entry, key, lambda: read_options(agent))

    def _of_answers(self, entry: Entry) -> Iterator[Problem]:
        returns = entry.require().returns
        if returns is not None:
            from corral.agents.typed_answer import answer_schema  # jsonschema

            yield from _raised(entry, "returns", lambda: answer_schema(returns))


def _way(came_from: dict[str, str], last: str) -> list[str]:
    way = [last]
    while way[0] in came_from:
        way.insert(0, came_from[way[0]])
    return way


def _raised(entry: Entry, key: str, act: Callable[[], object]) -> Iterator[Problem]:
    """The error of ``act``, as a problem of the agent."""
    try:
        act()
    except CorralError as error:
        yield _problem(entry, key, error.message.removesuffix("."), error.hint)


def _problem(entry: Entry, key: str, message: str, hint: str) -> Problem:
    return Problem(entry.file, line_of(entry, key), key, f"{entry.name}: {message}", hint)


def _near(word: str, known: Iterable[str], are: str) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else f"{are}: {', '.join(sorted(known))}."
