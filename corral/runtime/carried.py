"""What is random in an effect's value: kept as it is, or left out, when the value is redacted.

A compressed image, or the state that a tool server wants back, looks like a secret here and there;
a placeholder in the middle would spoil it. So only secrets that are known are looked for in it, and
what holds one is left out as a whole.
"""

from __future__ import annotations

from typing import Any

from corral.jsontypes import JsonObject
from corral.policies.redaction import Redactor

_CARRIED = {"images": "base64", "files": "base64", "asks": "state"}
"""Of a tool's result, and of the files beside a prompt: the field of each that is carried."""


def redacted(value: JsonObject, redactor: Redactor) -> JsonObject:
    """A value without its secrets. An image, file or state that holds one is empty."""
    carried = {
        (name, at): str(one[field])
        for name, field in _CARRIED.items()
        if isinstance(value.get(name), list)
        for at, one in enumerate(value[name])
        if isinstance(one, dict) and one.get(field) is not None
    }
    clean: Any = redactor.json(_with(value, dict.fromkeys(carried, "")) if carried else value)
    whole = {place: data for place, data in carried.items() if not redactor.knows(data)}
    return _with(clean, whole) if whole else clean


def _with(value: JsonObject, data: dict[tuple[str, int], str]) -> JsonObject:
    """A copy of the value with other data at these places."""
    lists = {name: list(value[name]) for name, _ in data}
    for (name, at), carried in data.items():
        lists[name][at] = {**lists[name][at], _CARRIED[name]: carried}
    return {**value, **lists}
