"""The arguments of a tool call against the tool's schema, with what to do about what is wrong."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import mcp_types as types

from corral.jsontypes import JsonObject
from corral.tools.bounded_validators import TooMuchWorkError
from corral.tools.contract import ToolSpec
from corral.tools.schemas import argument_faults
from corral.tools.text import one_line


def unfit(tool: types.Tool, args: JsonObject) -> str | None:
    """What is wrong with ``args`` and how they are to be; ``None`` when nothing is."""
    spec = ToolSpec("serving", tool.name, "", tool.input_schema)
    try:
        faults = argument_faults(spec, args)
    except TooMuchWorkError:
        faults = ["they are too complex to be checked; make them smaller"]
    if not faults:
        return None
    lines = [f"The arguments do not fit {tool.name}, and nothing was done:"]
    lines += [f"- {fault}" for fault in faults]
    lines.append(_advice(tool.input_schema, args))
    return "\n".join(lines)


def fits(schema: JsonObject, content: JsonObject) -> bool:
    """Whether a form's content is what its schema asks for."""
    try:
        return not argument_faults(ToolSpec("serving", "form", "", schema), content)
    except TooMuchWorkError:
        return False


def _advice(schema: dict[str, Any], args: JsonObject) -> str:
    """Which arguments the tool takes, and what a misspelt one was meant to be."""
    properties: dict[str, Any] = schema.get("properties", {})
    required = set(schema.get("required", ()))
    taken = [f"{name} (required)" if name in required else name for name in properties]
    meant = [
        f"Did you mean {close[0]!r} where you wrote {one_line(name, 60)!r}?"
        for name in sorted(args.keys() - properties.keys())
        if (close := get_close_matches(name[:100], properties, n=1))
    ]
    takes = f"It takes: {', '.join(taken) or 'no arguments'}."
    return " ".join([takes, *meant, "Correct them and call again."])
