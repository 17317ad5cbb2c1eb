"""Tools, calls and results as plain text, for models whose template knows none of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import ToolMessage

from corral.runtime.models.grammar import CallSyntax
from corral.tools.contract import ToolSpec

PLAIN_SYNTAX = CallSyntax(
    prefix='<tool_call>\n{"name": "',
    middle='", "arguments": ',
    suffix="}\n</tool_call>",
    trigger="<tool_call>",
)
"""The Hermes form, which more open models were trained on than on any other."""

_SENTENCE = re.compile(r"(?<=[.!?])\s")


def describe_tools(tools: Sequence[ToolSpec]) -> str:
    """All tools, one short line each, and how to call one."""
    lines = "\n".join(f"- {describe_tool(tool)}" for tool in tools)
    return (
        f"You can call these tools:\n{lines}\n\n"
        f"To call a tool, write only:\n{PLAIN_SYNTAX.prefix}NAME{PLAIN_SYNTAX.middle}"
        f"{{...}}{PLAIN_SYNTAX.suffix}"
    )


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


def tool_result(message: ToolMessage, text: str) -> str:
    """A result as the next thing that the model is told."""
    head = "Error from" if message.status == "error" else "Result of"
    return f"{head} {message.name or 'the tool'}:\n{text}"


def _type(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "any"
    if isinstance(schema.get("enum"), list):
        return "|".join(str(value) for value in schema["enum"][:8])
    kind = schema.get("type", "any")
    return "|".join(map(str, kind)) if isinstance(kind, list) else str(kind)
