"""What a tool of ours is: a declaration, a function, and how its arguments are checked.

Tuples with names here and beside, not data classes: those import ``inspect``, which would take
longer than all the rest of a server's start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

JsonObject = dict[str, Any]


class ToolFault(Exception):
    """A call that cannot be carried out; the text goes to the model."""


class Answer(NamedTuple):
    """What a call gives back: text for the model, the same as data, and whether it failed."""

    text: str
    structured: JsonObject | None = None
    is_error: bool = False


class Call:
    """One call under way. ``cancelled`` is set when the client no longer wants the answer."""

    def __init__(self, arguments: JsonObject) -> None:
        self.arguments = arguments
        self.cancelled = threading.Event()

    def text(self, name: str, default: str = "") -> str:
        """A string argument."""
        value: str = self.arguments.get(name, default)
        return value

    def number(self, name: str, default: float) -> float:
        """A number argument."""
        value: float = self.arguments.get(name, default)
        return value


class Effects(NamedTuple):
    """What a tool does to its surroundings: MCP's annotations, and they are true."""

    read_only: bool
    destructive: bool = False
    idempotent: bool = False

    def to_json(self) -> JsonObject:
        """The annotations as MCP spells them."""
        return {
            "readOnlyHint": self.read_only,
            "destructiveHint": self.destructive,
            "idempotentHint": self.idempotent,
            "openWorldHint": False,
        }


class Tool(NamedTuple):
    """One tool. ``properties`` holds JSON Schemas with ``type``, and bounds for numbers."""

    name: str
    title: str
    description: str
    properties: Mapping[str, JsonObject]
    required: tuple[str, ...]
    effects: Effects
    run: Callable[[Call], Answer]
    output: JsonObject | None = None

    def to_json(self, version: str) -> JsonObject:
        """The declaration as a client of this protocol version may see it."""
        declared: JsonObject = {
            "name": self.name,
            "description": self.description,
            "inputSchema": {
                "type": "object",
                "properties": dict(self.properties),
                "required": list(self.required),
                "additionalProperties": False,
            },
        }
        if version >= "2025-03-26":
            declared["annotations"] = {"title": self.title, **self.effects.to_json()}
        if version >= "2025-06-18":
            declared["title"] = self.title
            if self.output is not None:
                declared["outputSchema"] = self.output
        return declared

    def check(self, arguments: JsonObject) -> str:
        """What is wrong with the arguments, in words; empty when nothing is."""
        missing = [name for name in self.required if name not in arguments]
        unknown = [name for name in arguments if name not in self.properties]
        faults = [f"the argument {name!r} is missing" for name in missing]
        faults += [f"there is no argument {name!r}" for name in unknown]
        for name, value in arguments.items():
            if name in self.properties:
                fault = _mismatch(value, self.properties[name])
                faults += [f"the argument {name!r} {fault}"] if fault else []
        if not faults:
            return ""
        known = ", ".join(self.properties)
        return f"{self.name} was not run: {'; '.join(faults)}. It takes: {known}."


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def _mismatch(value: object, schema: JsonObject) -> str:
    kind = schema["type"]
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return f"must be of type {kind}"
    if isinstance(value, int | float):
        if value < schema.get("minimum", value):
            return f"must be at least {schema['minimum']}"
        if value > schema.get("maximum", value):
            return f"must be at most {schema['maximum']}"
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        return "must not be empty"
    return ""
