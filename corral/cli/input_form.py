"""The form that a tool server wants filled in: its fields in words, and values from what is typed.

A server's form is a flat JSON Schema (elicitation of the MCP specification).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from corral.cli.output import one_line
from corral.errors import UsageError
from corral.tools.inquiry import secret_field

if TYPE_CHECKING:
    from corral.jsontypes import JsonObject
    from corral.runtime.views import Approval


def is_held(approval: Approval) -> bool:
    """Whether a call is kept waiting for the answer, so that it is wanted now."""
    return bool(approval.context.get("input", {}).get("held"))


def fields_of(approval: Approval) -> JsonObject:
    """The fields of the form by name, in the server's order; none of an address."""
    about = approval.context.get("input", {})
    fields = about.get("schema", {}).get("properties")
    return {name: fields[name] for name in about["fields"]} if isinstance(fields, dict) else {}


def needed(approval: Approval) -> list[str]:
    """The fields that must be given."""
    required = approval.context["input"]["schema"].get("required", ())
    return [name for name in fields_of(approval) if name in required]


def field_line(name: str, field: Any, *, is_needed: bool) -> str:
    """One field in words: ``copies (integer, default 1): How many.``."""
    given = field if isinstance(field, dict) else {}
    facts = [str(given.get("type", "any")), "needed" if is_needed else ""]
    if choices := _choices(given):
        facts.append("one of " + ", ".join(choices))
    if "default" in given:
        facts.append(f"default {json.dumps(given['default'], ensure_ascii=False)}")
    about = str(given.get("description") or given.get("title") or "")
    words = f"{name} ({', '.join(fact for fact in facts if fact)})"
    return one_line(f"{words}: {about}" if about else words, 300)


def asks_a_secret(approval: Approval) -> str | None:
    """The first field that looks as if a secret was to be typed into it, which no form may ask."""
    return secret_field({"properties": fields_of(approval)})


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


def _choices(field: JsonObject) -> list[str]:
    """What can be chosen: ``enum``, or titled ones in ``oneOf``; of an array those of its items."""
    items = field.get("items")
    inner = items if isinstance(items, dict) else field
    titled = inner.get("oneOf") or inner.get("anyOf") or ()
    listed = inner.get("enum") or [one.get("const") for one in titled if isinstance(one, dict)]
    return [str(one) for one in listed]
