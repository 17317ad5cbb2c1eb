"""Pieces of JSON Schema that the declarations of our tools' answers are made of."""

from __future__ import annotations

from corral.mcp_servers.tool import JsonObject

TEXT: JsonObject = {"type": "string"}
COUNT: JsonObject = {"type": "integer"}
FLAG: JsonObject = {"type": "boolean"}
MAYBE_COUNT: JsonObject = {"type": ["integer", "null"]}


def record(**properties: JsonObject) -> JsonObject:
    """The schema of an object that has all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def array(items: JsonObject) -> JsonObject:
    """The schema of an array."""
    return {"type": "array", "items": items}
