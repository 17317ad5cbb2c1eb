"""Which agent is meant, with everything filled in that the settings decide."""

from __future__ import annotations

from collections.abc import Sequence

from corral.agents.options import RunOptions
from corral.agents.spec import DEFAULT_NAME, Agent
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
        """An agent by name or as brought, its team resolved. ``model`` replaces its own.

        Raises ``NotFoundError`` for a name that is not configured, ``ConfigError`` for a team that
        contains itself.
        """
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
        return agent.model_copy(
            update={**clean, "model": own or model, "agents": team, "checks": checks}
        )

    def _configured(self, name: str | None) -> Agent:
        config = self._settings.agents.get(name or DEFAULT_NAME)
        if config is not None:
            return Agent(name=name or DEFAULT_NAME, **dict(config))
        if name in (None, DEFAULT_NAME):
            return Agent()
        names = ", ".join(sorted({DEFAULT_NAME, *self._settings.agents}))
        raise NotFoundError(
            f"There is no agent {name!r}.",
            hint=f"The agents are: {names}. Add [agents.{name}] to corral.toml to make it.",
        )


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
