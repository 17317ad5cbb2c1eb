"""What a project's ``corral.toml`` may say of budgets: less than its user allows, never more."""

from __future__ import annotations

from typing import Any

from corral.jsontypes import JsonObject


def tightened(project: JsonObject, users: JsonObject) -> JsonObject:
    """The project's settings, with no limit on spending that is higher than the user's own.

    Both are as they were read, so what is malformed is left for the settings to refuse.
    """
    found = dict(project)
    for key in ("budgets", "limits", "agents"):
        if key in project and key in users:
            found[key] = _lower(project[key], users[key], (key,))
    return found


def _lower(project: Any, users: Any, where: tuple[str, ...]) -> Any:
    if isinstance(project, dict) and isinstance(users, dict):
        both = (
            (name, _lower(value, users[name], (*where, name)) if name in users else value)
            for name, value in project.items()
        )
        return dict(both)
    if not _is_limit(where):
        return project
    if where[-1] == "at_limit":
        return "answer" if "answer" in (project, users) else project
    return min(project, users) if _is_number(project) and _is_number(users) else project


def _is_limit(where: tuple[str, ...]) -> bool:
    """Whether a setting limits spending: all of budgets do, of limits all but the steps."""
    is_budget = where[0] == "budgets" or "budget" in where[2:3]
    return is_budget or (where[-2:-1] == ("limits",) and where[-1] != "max_steps")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
