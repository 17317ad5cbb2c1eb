"""The policy of a run: the organisation's files, the project's, the user's and the session's rules.

Each is a layer, and a lower one only narrows. Where one cannot be loaded, nothing runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from corral.errors import ConfigError
from corral.jsontypes import JsonObject
from corral.policies.layers import Layered
from corral.policies.presets import PRESETS, READ_ONLY
from corral.policies.rules import Policy, Rule
from corral.policies.writing.parse import find_preset, parse_policy
from corral.runtime.config import Settings, user_file
from corral.runtime.policy_layers import read_policy_text
from corral.tools.web import private_hosts

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

    def load(self, settings: Settings) -> Layered:
        """All policies that hold for the run. Raises ``ConfigError``."""
        return load_policy(settings, self.policy, self.rules)


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
    if not isinstance(policy, str) or not _is_file(policy):
        return policy
    return str(Path(policy).expanduser().absolute())


def _is_file(policy: str) -> bool:
    return policy.endswith(".toml") or "/" in policy


def _chosen(policy: str) -> Policy:
    if not _is_file(policy):
        return find_preset(policy)
    path = Path(policy).expanduser().absolute()
    if not path.exists():
        raise ConfigError(
            f"There is no policy file {path}.",
            hint=f"Name a file that is there, or a preset: {', '.join(PRESETS)}.",
        )
    return parse_policy(read_policy_text(path), str(path))


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
