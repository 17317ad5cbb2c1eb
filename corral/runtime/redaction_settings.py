"""``[redaction]``: what is redacted, what may be turned back, and for whom.

A project's file can only make it stricter: what it lists is added to the user's own.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from corral.jsontypes import JsonObject
from corral.policies.detectors.personal import CHECKED_KINDS, Personal, PersonalKind


class RedactionSettings(BaseModel):
    """What is taken out of all that is stored. Secrets with a known format always are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    personal: tuple[PersonalKind, ...] = Field(
        default=CHECKED_KINDS,
        description="Kinds of personal data: card, iban, national-id; email, phone, ip, vat.",
    )
    entropy: bool = Field(
        default=True,
        description="Also values that look random in the place of a secret: password = …",
    )
    region: str | None = Field(
        default=None,
        pattern=r"^[A-Z]{2}$",
        description="The country (DE) of phone numbers without a +.",
    )
    reversible: bool = Field(
        default=True, description="Keep what was redacted, encrypted, for tools that may have it."
    )
    reveal_to: tuple[str, ...] = Field(
        default=(), description="Tools (SERVER__TOOL, * is a wildcard) that get the real values."
    )
    hosted: tuple[PersonalKind, ...] = Field(
        default=(), description="Kinds that hosted models are not shown."
    )

    def sought(self) -> Personal:
        """What personal data is redacted."""
        return Personal(frozenset(self.personal), self.region)

    def withheld(self) -> Personal:
        """What personal data a hosted model is not shown, besides."""
        return Personal(frozenset(self.hosted), self.region)


_ADDED = ("personal", "hosted")
_STRICTER = {"entropy": True, "reversible": False}


def refused_in_project(data: JsonObject) -> list[str]:
    """The keys by which a project's file would loosen what is redacted."""
    section = data.get("redaction")
    if not isinstance(section, dict):
        return []
    refused = [key for key in ("reveal_to", "region") if key in section]
    refused += [key for key, strict in _STRICTER.items() if section.get(key, strict) != strict]
    return [f"redaction.{key}" for key in refused]


def with_users_own(project: JsonObject, user: JsonObject) -> JsonObject:
    """The project's settings with what its lists would otherwise take the place of."""
    merged = dict(project)
    section = project.get("redaction")
    if isinstance(section, dict):
        before = _section(user)
        added = {key: _joined(before.get(key), section[key]) for key in _ADDED if key in section}
        merged["redaction"] = {**section, **added}
    if isinstance(project.get("checks"), list):
        merged["checks"] = _joined(user.get("checks"), project["checks"])
    if isinstance(project.get("agents"), dict):
        agents = user.get("agents")
        agents = agents if isinstance(agents, dict) else {}
        merged["agents"] = {
            name: _with_checks(agent, agents.get(name)) for name, agent in project["agents"].items()
        }
    return merged


def _with_checks(agent: Any, before: Any) -> Any:
    if not (isinstance(agent, dict) and isinstance(before, dict) and "checks" in agent):
        return agent
    return {**agent, "checks": _joined(before.get("checks"), agent["checks"])}


def _section(user: JsonObject) -> JsonObject:
    given = user.get("redaction")
    defaults = {"personal": list(CHECKED_KINDS)}
    return {**defaults, **given} if isinstance(given, dict) else defaults


def _joined(before: Any, added: Any) -> Any:
    """Both lists; what is no list is left to the settings to complain about."""
    if not isinstance(added, list) or not isinstance(before or [], list):
        return added
    return [*(before or []), *(one for one in added if one not in (before or []))]
