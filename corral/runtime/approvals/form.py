"""The form that a tool server wants filled in: its fields, and each of them in words.

A server's form is a flat JSON Schema (elicitation of the MCP specification).
"""

from __future__ import annotations

import json
from typing import Any

from corral.jsontypes import JsonObject
from corral.runtime.views import Approval
from corral.tools.inquiry import secret_field
from corral.tools.text import visible_line


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
    return visible_line(f"{words}: {about}" if about else words, 300)


def asks_a_secret(approval: Approval) -> str | None:
    """The first field that looks as if a secret was to be typed into it, which no form may ask."""
    return secret_field({"properties": fields_of(approval)})


def _choices(field: JsonObject) -> list[str]:
    """What can be chosen: ``enum``, or titled ones in ``oneOf``; of an array those of its items."""
    items = field.get("items")
    inner = items if isinstance(items, dict) else field
    titled = inner.get("oneOf") or inner.get("anyOf") or ()
    listed = inner.get("enum") or [one.get("const") for one in titled if isinstance(one, dict)]
    return [str(one) for one in listed]
