"""Tools, calls and results as plain text, for models whose template knows none of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage

from corral.jsontypes import JsonObject
from corral.runtime.models.contract import ModelRequest
from corral.runtime.models.grammar import CallSyntax
from corral.tools.contract import ToolSpec

PLAIN_SYNTAX = CallSyntax(prefix="CALL ", middle=" ", suffix="", trigger="")
"""``CALL files__read_file {"path": "a.txt"}``: of five forms the one that a 135M model, which was
trained on none, filled in with the right arguments most often."""

_SENTENCE = re.compile(r"(?<=[.!?])\s")


def plain_messages(request: ModelRequest, clean: Callable[[str], str]) -> list[JsonObject]:
    """Roles that every template knows; tools, calls and results are written into the content.

    ``clean`` is applied to every text that comes from outside.
    """
    messages = [_plain_message(message, clean) for message in request.messages]
    if request.tools and request.tool_choice != "none":
        begins = bool(messages) and messages[0]["role"] == "system"
        system = messages.pop(0)["content"] if begins else ""
        content = "\n\n".join(filter(None, [system, clean(describe_tools(request.tools))]))
        messages.insert(0, {"role": "system", "content": content})
    return messages


def _plain_message(message: BaseMessage, clean: Callable[[str], str]) -> JsonObject:
    text = clean(str(message.text))
    if isinstance(message, SystemMessage):
        return {"role": "system", "content": text}
    if isinstance(message, ToolMessage):
        head = "Error from" if message.status == "error" else "Result of"
        return {"role": "user", "content": f"{head} {message.name or 'the tool'}:\n{text}"}
    if isinstance(message, AIMessage):
        calls = [PLAIN_SYNTAX.render(call["name"], call["args"]) for call in message.tool_calls]
        return {"role": "assistant", "content": "\n".join(filter(None, [text, *map(clean, calls)]))}
    return {"role": "user", "content": text}


def describe_tools(tools: Sequence[ToolSpec]) -> str:
    """All tools, one short line each."""
    return "Tools:\n" + "\n".join(f"- {describe_tool(tool)}" for tool in tools)


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
