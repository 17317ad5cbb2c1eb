"""Which agent is meant, with everything filled in that the settings decide."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cached_property

from corral.agents.files.catalog import DEFAULT_NAME, Catalog, find_agents, is_file_name
from corral.agents.options import RunOptions
from corral.agents.patterns.registry import read_options
from corral.agents.spec import Agent
from corral.errors import ConfigError, NotFoundError
from corral.policies.checks import Check
from corral.policies.redaction import Redactor
from corral.runtime.config import Settings
from corral.runtime.runs import RunRow


class Roster:
    """The agents of the settings, and those that callers bring."""

    def __init__(self, settings: Settings, redactor: Redactor) -> None:
        self._settings = settings
        self._redactor = redactor

    def agent(self, agent: Agent | str | None, model: str | None) -> Agent:
        """An agent by name, by its Markdown file or as brought, its team resolved.

        ``model`` replaces its own. Raises ``NotFoundError`` for a name that is not configured,
        ``ConfigError`` for a file that is broken, a team that contains itself, and options that do
        not fit a pattern.
        """
        if isinstance(agent, str) and is_file_name(agent):
            agent = Agent.from_file(agent)
        found = agent if isinstance(agent, Agent) else self._configured(agent)
        return self._complete(found, model or found.model or self._settings.model, ())

    def of_run(self, row: RunRow, options: RunOptions) -> Agent:
        """The agent of a stored run: the one that the caller brings, or the stored one."""
        if isinstance(options.agent, Agent):
            return self.agent(options.agent, options.model or row.model)
        return self.agent(Agent.from_spec(row.spec["agent"]), row.model)

    def _complete(self, agent: Agent, model: str, above: tuple[str, ...]) -> Agent:
        if agent.name in above:
            raise ConfigError(
                f"The agent {agent.name!r} would give tasks to itself: "
                f"{' → '.join((*above, agent.name))}.",
                hint="Take it out of the team of one of them.",
            )
        # Texts are stored with the run, and a replay must ask with what is stored.
        texts = {"instructions": agent.instructions, "description": agent.description}
        clean = self._redactor.json({name: text for name, text in texts.items() if text})
        assert isinstance(clean, dict)
        members = [one if isinstance(one, Agent) else self._configured(one) for one in agent.agents]
        own = agent.chat_model.name if agent.chat_model is not None else None
        default = self._settings.model if own else model
        team = tuple(
            self._complete(one, one.model or default, (*above, agent.name)) for one in members
        )
        _require_own_names(agent.name, team)
        checks = tuple(dict.fromkeys((*self._settings.checks, *agent.checks)))
        _require_own_check_names(agent.name, checks)
        policy = agent.policy and agent.policy.found_from(self._settings.workspace)
        completed = agent.model_copy(
            update={
                **clean,
                "model": own or model,
                "agents": team,
                "checks": checks,
                "policy": policy,
            }
        )
        read_options(completed)
        return completed

    def _configured(self, name: str | None) -> Agent:
        entry = self._catalog.find(name or DEFAULT_NAME)
        if entry is not None:
            return Agent.from_entry(entry)
        names = self._catalog.names
        near = difflib.get_close_matches(str(name), names, n=1)
        meant = f"Did you mean {near[0]!r}? " if near else ""
        raise NotFoundError(
            f"There is no agent {name!r}.",
            hint=f"{meant}The agents are: {', '.join(names)}. `corral agents new NAME` makes one.",
        )

    @cached_property
    def _catalog(self) -> Catalog:
        """Read when an agent is first named, and then no more: a conversation keeps its agents."""
        return find_agents(self._settings)


def _require_own_check_names(name: str, checks: Sequence[Check]) -> None:
    names = [check.name for check in checks]
    if len(set(names)) != len(names):
        raise ConfigError(
            f"Two checks of the agent {name!r} have the same name: {', '.join(names)}.",
            hint="Give each a name of its own: they are told apart by it in the journal.",
        )


def _require_own_names(name: str, team: tuple[Agent, ...]) -> None:
    names = [member.name for member in team]
    if len(set(names)) != len(names):
        raise ConfigError(
            f"Two sub-agents of {name!r} have the same name: {', '.join(names)}.",
            hint="Give each a name of its own: Agent(name=…).",
        )
