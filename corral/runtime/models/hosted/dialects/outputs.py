"""``ModelRequest.output`` as providers take it, and the answer's text found again.

They constrain an answer to a JSON object, so that a choice, and JSON that is no object, become
its one member. A provider or model that cannot do that calls a tool to answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from corral.jsontypes import JsonObject
from corral.runtime.models.contract import (
    ChoiceOutput,
    JsonOutput,
    ModelRequest,
    NamedTool,
    Output,
)
from corral.runtime.models.hosted.dialects.call import Wrapping
from corral.tools.contract import ToolSpec

_SHARED = ("$defs", "definitions", "$schema")
_ABOUT = "Gives your answer. Call it to answer, once, and with nothing else."


def wrapped(output: Output) -> tuple[JsonObject, Wrapping]:
    """The schema of an object that holds the answer, and how to find it there."""
    if isinstance(output, ChoiceOutput):
        choices: JsonObject = {"type": "string", "enum": list(output.choices)}
        return _object("choice", choices), Wrapping(output, member="choice")
    schema = output.schema
    if schema.get("type") == "object":
        return dict(schema), Wrapping(output)
    inner = {key: _moved(value) for key, value in schema.items() if key not in _SHARED}
    shared = {key: _moved(schema[key]) for key in _SHARED if key in schema}
    return {**_object("value", inner), **shared}, Wrapping(output, member="value")


def output_name(output: Output) -> str:
    """What providers are told that the answer is called."""
    return output.name if isinstance(output, JsonOutput) else "choice"


def through_tool(
    request: ModelRequest, schema: JsonObject, wrapping: Wrapping
) -> tuple[ModelRequest, Wrapping]:
    """The request with a tool whose arguments are the answer, and which must be called.

    Where the model may also call others, it must call any.
    """
    taken = {tool.name for tool in request.tools}
    tool = next(one for one in _tools(schema) if one.name not in taken)
    choice = request.tool_choice
    if not request.tools or choice == "none":
        choice = NamedTool(tool.name)
    elif choice == "auto":
        choice = "required"
    asked = replace(request, tools=(*request.tools, tool), tool_choice=choice)
    return asked, replace(wrapping, tool=tool.name)


def unwrapped(text: str, wrapping: Wrapping) -> str:
    """The answer's text in what a provider sent; that itself where it is something else."""
    if not wrapping.member:
        return text
    try:
        value = json.loads(text)[wrapping.member]
    except (ValueError, KeyError, TypeError, RecursionError):
        return text
    if isinstance(wrapping.output, ChoiceOutput) and isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _object(member: str, schema: JsonObject) -> JsonObject:
    return {
        "type": "object",
        "properties": {member: schema},
        "required": [member],
        "additionalProperties": False,
    }


def _moved(value: Any) -> Any:
    """A part of a schema whose references to the whole follow it to where it stands now."""
    if isinstance(value, Mapping):
        return {
            key: "#/properties/value" if (key, one) == ("$ref", "#") else _moved(one)
            for key, one in value.items()
        }
    return [_moved(one) for one in value] if isinstance(value, list) else value


def _tools(schema: JsonObject) -> Iterator[ToolSpec]:
    names = ("answer", *(f"answer_{number}" for number in range(2, 1000)))
    return (ToolSpec("corral", name, _ABOUT, schema) for name in names)
