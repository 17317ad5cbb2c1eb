"""Tools, calls and results as plain text, for models whose template knows none of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import AIMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import ToolCall

from corral.jsontypes import JsonObject
from corral.runtime.models.contract import ModelRequest
from corral.runtime.models.local.constraints.syntax import CallSyntax
from corral.tools.contract import ToolSpec

PLAIN_SYNTAX = CallSyntax(prefix="CALL ", middle=" ", close="", trigger="", between="\nCALL ")
"""``CALL files__read_file {"path": "a.txt"}``: of five forms the one that a 135M model, which was
trained on none, filled in with the right arguments most often."""

_SENTENCE = re.compile(r"(?<=[.!?])\s")


def plain_messages(
    request: ModelRequest, clean: Callable[[str], str], *, shown: Sequence[JsonObject] = ()
) -> list[JsonObject]:
    """The conversation in roles that every template knows.

    Tools go into the system message, a call and its result into the user's message that led to
    it: a model that sees calls as its own earlier words repeats them instead of answering.
    ``clean`` is applied to every text that comes from outside. ``shown`` are worked examples.
    """
    system, turns, calls = "", list[JsonObject](), dict[str, str]()
    for message in request.messages:
        text = clean(str(message.text))
        match message:
            case SystemMessage():
                system = "\n\n".join(filter(None, [system, text]))
            case ToolMessage():
                call = calls.get(message.tool_call_id, message.name or "The tool")
                verb = "failed" if message.status == "error" else "returned"
                _tell(turns, f"{call} {verb}:\n{text}")
            case AIMessage(tool_calls=[_, *_]):
                calls |= {c["id"] or "": clean(_call(c)) for c in message.tool_calls}
                if text:
                    _tell(turns, text)
            case _:
                role = "assistant" if isinstance(message, AIMessage) else "user"
                turns.append({"role": role, "content": text})
    if request.tools and request.tool_choice != "none":
        tools = clean(describe_tools(request.tools))
        system = "\n\n".join(filter(None, [system, tools]))
    head: list[JsonObject] = [{"role": "system", "content": system}] if system else []
    return [*head, *shown, *turns]


def _tell(turns: list[JsonObject], text: str) -> None:
    """Add to what the user said last."""
    if turns and turns[-1]["role"] == "user":
        turns[-1] = {"role": "user", "content": f"{turns[-1]['content']}\n\n{text}"}
    else:
        turns.append({"role": "user", "content": text})


def _call(call: ToolCall) -> str:
    return f"{call['name']} {json.dumps(call['args'], ensure_ascii=False)}"


def describe_tools(tools: Sequence[ToolSpec]) -> str:
    """All tools, one short line each, and how to call one."""
    lines = "\n".join(f"- {describe_tool(tool)}" for tool in tools)
    return f"Tools:\n{lines}\n\nTo use a tool, write only CALL, its name and its arguments as JSON."


def describe_tool(tool: ToolSpec) -> str:
    """One tool as a signature: ``files__read_file(path: string): Read a file.``"""
    properties = tool.input_schema.get("properties", {})
    required = set(tool.input_schema.get("required", ()))
    parameters = ", ".join(
        f"{name}{'' if name in required else '?'}: {_type(schema)}"
        for name, schema in properties.items()
    )
    sentence = _SENTENCE.split(tool.description.strip(), maxsplit=1)[0]
    return f"{tool.name}({parameters}): {' '.join(sentence.split())}"


def _type(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "any"
    if isinstance(schema.get("enum"), list):
        return "|".join(str(value) for value in schema["enum"][:8])
    kind = schema.get("type", "any")
    return "|".join(map(str, kind)) if isinstance(kind, list) else str(kind)
