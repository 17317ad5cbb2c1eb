"""What is typed into the form of a tool server, as values of its fields."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from corral.errors import UsageError
from corral.runtime.approvals.form import fields_of

if TYPE_CHECKING:
    from corral.jsontypes import JsonObject
    from corral.runtime.views import Approval


def is_held(approval: Approval) -> bool:
    """Whether a call is kept waiting for the answer, so that it is wanted now."""
    return bool(approval.context.get("held"))


def parse_values(given: Iterable[str], approval: Approval) -> JsonObject:
    """The values of ``FIELD=VALUE`` arguments, each of the type that its field has.

    Raises ``UsageError``; whether they fit the form is checked when they are stored.
    """
    fields = fields_of(approval)
    values: JsonObject = {}
    for one in given:
        name, mark, text = one.partition("=")
        if not mark:
            raise UsageError(f"{one!r} is no value.", hint="Write --value FIELD=VALUE.")
        values[name] = value_of(name, fields.get(name), text)
    return values


def value_of(name: str, field: Any, text: str) -> Any:
    """What is typed for a field. Raises ``UsageError``."""
    kind = field.get("type") if isinstance(field, dict) else None
    match kind:
        case "boolean":
            return _truth(name, text)
        case "integer" | "number":
            return _number(name, text)
        case "array":
            return [part.strip() for part in text.split(",") if part.strip()]
        case _:
            return text


def _truth(name: str, text: str) -> bool:
    word = text.strip().lower()
    if word in ("true", "yes", "y", "1"):
        return True
    if word in ("false", "no", "n", "0"):
        return False
    raise UsageError(f"{name} is yes or no, not {text!r}.", hint="Nothing was answered.")


def _number(name: str, text: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise UsageError(f"{name} is a number, not {text!r}.", hint="Nothing was answered.")
    return found
