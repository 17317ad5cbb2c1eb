"""The policy of a run: the organisation's files, the project's, the user's and the session's rules.

Each is a layer, and a lower one only narrows. Where one cannot be loaded, nothing runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from corral.errors import ConfigError
from corral.jsontypes import JsonObject
from corral.policies.layers import AgentLayer, Layered
from corral.policies.presets import PRESETS, READ_ONLY
from corral.policies.rules import Policy, Rule
from corral.policies.writing.parse import find_preset, parse_policy
from corral.runtime.agent_policy import AgentPolicy, is_file
from corral.runtime.config import Settings, user_file
from corral.runtime.policy_layers import read_policy_text
from corral.tools.web import private_hosts

if TYPE_CHECKING:
    from corral.agents.spec import Agent

ORGANISATION_FILE = Path("/etc/corral/policy.toml")


@dataclass(frozen=True)
class Chosen:
    """The policy and the session's rules that a run was started with, as its row keeps them."""

    policy: str | Policy | None = None
    rules: tuple[Rule, ...] = ()

    @classmethod
    def by(
        cls, policy: str | Policy | None, rules: Sequence[Rule], spec: JsonObject | None = None
    ) -> Chosen:
        """What a caller chooses, for a run that began with ``spec``: its rules stay."""
        began = cls.from_spec(spec or {})
        more = tuple(rule for rule in rules if rule not in began.rules)
        return cls(_absolute(policy) or began.policy, (*began.rules, *more))

    @classmethod
    def from_spec(cls, spec: JsonObject) -> Chosen:
        """Read what ``to_spec`` wrote."""
        policy = spec.get("policy")
        if isinstance(policy, dict):
            policy = Policy(policy["name"], _rules(policy["rules"]))
        return cls(policy, _rules(spec.get("rules", ())))

    def to_spec(self) -> JsonObject:
        """The choice as JSON."""
        policy: str | JsonObject | None
        if isinstance(self.policy, Policy):
            placed = [each.rule.to_json() for each in self.policy.placed()]
            policy = {"name": self.policy.name, "rules": placed}
        else:
            policy = self.policy
        rules = {"rules": [rule.to_json() for rule in self.rules]} if self.rules else {}
        return {"policy": policy, **rules}

    def load(self, settings: Settings, agents: Iterable[AgentLayer] = ()) -> Layered:
        """All policies that hold for the run, with those of its agents. Raises ``ConfigError``."""
        return replace(load_policy(settings, self.policy, self.rules), agents=tuple(agents))


def load_policy(
    settings: Settings, policy: str | Policy | None = None, rules: Sequence[Rule] = ()
) -> Layered:
    """All policies that hold for a run.

    ``policy``, else that of the settings, is what the user has chosen: a preset's name, a file or a
    policy made in Python; the user's own rules come before it. ``rules`` are those of the session.
    Raises ``ConfigError``: where policy cannot be loaded, nothing runs.
    """
    chosen = policy if isinstance(policy, Policy) else _chosen(policy or settings.policy)
    is_choice = policy is not None or "policy" in settings.model_fields_set
    layers = [
        *organisation_policies(),
        *_project(settings, is_choice=is_choice),
        *_users(settings, chosen),
    ]
    if rules:
        layers.append(Policy("the session", tuple(rules), layer="session"))
    return replace(
        Layered.of(*layers),
        guarded=tuple(_guarded(settings)),
        on_untrusted=settings.provenance.on_untrusted,
        private_hosts=private_hosts(settings.web),
    )


def agent_layers(agent: Agent, above: tuple[str, ...] = ()) -> Iterator[AgentLayer]:
    """The policies of an agent and of all below it, as far as they have one.

    Raises ``ConfigError``.
    """
    names = (*above, agent.name)
    if agent.policy is not None:
        yield agent_layer(agent.policy, names)
    for member in agent.agents:
        if not isinstance(member, str):
            yield from agent_layers(member, names)


def agent_layer(policy: AgentPolicy, agents: tuple[str, ...]) -> AgentLayer:
    """The policy of the last of these agents. Raises ``ConfigError``."""
    base = _chosen(policy.name) if policy.name else None
    if base is not None and any(base.all_sources()):
        raise ConfigError(
            f"The policy {policy.name} of the agent {agents[-1]!r} says what sources are worth.",
            hint="Write [[sources]] into your own configuration: an agent's policy holds rules.",
        )
    own = Policy(
        f"the agent {agents[-1]}", policy.rules, base and _of_agent(base, agents[-1]), layer="agent"
    )
    return AgentLayer(agents, own, is_whole=base is not None)


def _of_agent(policy: Policy, agent: str) -> Policy:
    """A policy as an agent has it. The reasons of a preset speak of the policy of a run."""
    if policy.name not in PRESETS:
        return policy
    rules = tuple(rule.model_copy(update={"reason": ""}) for rule in policy.rules)
    return replace(policy, name=f"{policy.name} of the agent {agent}", rules=rules)


def organisation_files() -> tuple[Path, ...]:
    """Where an organisation's policies are looked for; all that there are hold."""
    folders = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    found = (Path(folder) / "corral" / "policy.toml" for folder in folders.split(":"))
    return (ORGANISATION_FILE, *(path for path in found if path.is_absolute()))


def organisation_policies() -> list[Policy]:
    """The organisation's policies. Raises ``ConfigError``."""
    return [
        parse_policy(read_policy_text(path), str(path), layer="organisation")
        for path in organisation_files()
        if os.path.lexists(path)
    ]


def _rules(stored: Sequence[JsonObject]) -> tuple[Rule, ...]:
    return tuple(Rule.model_validate(rule) for rule in stored)


def _absolute(policy: str | Policy | None) -> str | Policy | None:
    """The policy as a resume from another folder finds it."""
    if not isinstance(policy, str) or not is_file(policy):
        return policy
    return str(Path(policy).expanduser().absolute())


def _chosen(policy: str) -> Policy:
    if not is_file(policy):
        return find_preset(policy)
    path = Path(policy).expanduser().absolute()
    if not path.exists():
        raise ConfigError(
            f"There is no policy file {path}.",
            hint=f"Name a file that is there, or a preset: {', '.join(PRESETS)}.",
        )
    return _parsed(read_policy_text(path), str(path))


_parsed = lru_cache(maxsize=64)(parse_policy)
"""A policy, parsed once for as long as its file says the same."""


def _project(settings: Settings, *, is_choice: bool) -> Iterator[Policy]:
    """The project's layers. A preset that a project names does not loosen what the user chose."""
    for layer in settings.policies:
        if layer.layer == "project":
            drop = is_choice and layer.base is not READ_ONLY
            yield replace(layer, base=None) if drop else layer


def _users(settings: Settings, chosen: Policy) -> Iterator[Policy]:
    """The user's layers, the most important first; the chosen policy follows its rules."""
    own = [layer for layer in settings.policies if layer.layer == "user"]
    if settings.rules:
        own.insert(0, Policy("the settings", settings.rules))
    if not own:
        yield replace(chosen, layer="user")
        return
    yield replace(own[0], base=chosen)
    yield from own[1:]


def _guarded(settings: Settings) -> Iterator[str]:
    """What no agent may write, there or not: configuration, and Corral's own state."""
    for path in (user_file(), *organisation_files(), settings.config):
        if path is not None:
            yield from {str(path.absolute()), os.path.realpath(path)}
    for home in {str(settings.home), os.path.realpath(settings.home)}:
        inside = os.path.commonpath((home, os.path.realpath(settings.workspace))) == home
        if not inside:
            yield home
