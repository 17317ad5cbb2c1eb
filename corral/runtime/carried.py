"""Images and files in an effect's value: kept as they are, or left out, when it is redacted.

What is random for good reason, such as a compressed image, looks like a secret here and there; a
placeholder in the middle would spoil it. So only secrets that are known are looked for in it, and
what holds one is left out as a whole.
"""

from __future__ import annotations

from typing import Any

from corral.jsontypes import JsonObject
from corral.policies.redaction import Redactor

_CARRIED = ("images", "files")
"""Of a tool's result, and of the files beside a prompt."""


def redacted(value: JsonObject, redactor: Redactor) -> JsonObject:
    """A value without its secrets. An image or file that holds one has an empty ``base64``."""
    carried = {
        (name, at): str(one["base64"])
        for name in _CARRIED
        if isinstance(value.get(name), list)
        for at, one in enumerate(value[name])
        if isinstance(one, dict) and "base64" in one
    }
    clean: Any = redactor.json(_with(value, dict.fromkeys(carried, "")) if carried else value)
    whole = {place: data for place, data in carried.items() if not redactor.knows(data)}
    return _with(clean, whole) if whole else clean


def _with(value: JsonObject, data: dict[tuple[str, int], str]) -> JsonObject:
    """A copy of the value with other ``base64`` at these places."""
    lists = {name: list(value[name]) for name, _ in data}
    for (name, at), base64 in data.items():
        lists[name][at] = {**lists[name][at], "base64": base64}
    return {**value, **lists}
