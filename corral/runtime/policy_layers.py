"""The rules that stand in configuration files: each file is a layer of the policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from corral.errors import ConfigError
from corral.jsontypes import JsonObject
from corral.policies.rules import LayerName, Policy, Rule
from corral.policies.writing.parse import find_preset, parse_rules

_KEYS = ("rules", "sources", "policy")


def has_layer(data: JsonObject, layer: LayerName) -> bool:
    """Whether a configuration file says anything of policy that is a layer of its own."""
    return any(key in data for key in _taken(layer))


def without_layer(data: JsonObject, layer: LayerName) -> JsonObject:
    """What is left of a configuration file for the settings.

    The ``policy`` that a project names is its own layer's, and not the user's choice.
    """
    return {key: value for key, value in data.items() if key not in _taken(layer)}


def file_layer(path: Path, data: JsonObject, layer: LayerName) -> Policy:
    """The rules of a configuration file. A project's count as far as they may.

    Raises ``ConfigError`` with file, line and remedy.
    """
    policy = parse_rules(read_policy_text(path), str(path), layer)
    if layer != "project":
        return policy
    if any(source.loosens for source in policy.sources):
        raise ConfigError(
            f"{path} may not trust a source or name its readers: the file belongs to the project.",
            hint='Leave only sources with trust = "untrusted" or readers = [] there, and write '
            "the others into your own configuration.",
        )
    base = find_preset(data["policy"]) if "policy" in data else None
    return replace(policy, rules=tuple(map(_within_the_sandbox, policy.rules)), base=base)


def read_policy_text(path: Path) -> str:
    """The text of a file that holds rules. Raises ``ConfigError``: without it nothing runs."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why: Any = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"The policy file {path} cannot be read: {why}.",
            hint="Nothing runs without it. Check that the file is there, that you may read it and "
            "that it is UTF-8 text.",
        ) from error


def _taken(layer: LayerName) -> tuple[str, ...]:
    return _KEYS if layer == "project" else _KEYS[:2]


def _within_the_sandbox(rule: Rule) -> Rule:
    """A project's rule that allows counts only for calls that stay in the sandbox."""
    return rule.model_copy(update={"sandboxed": True}) if rule.action == "allow" else rule
