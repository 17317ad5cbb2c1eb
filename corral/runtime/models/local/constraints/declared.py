"""Schemas that allow no other properties than the declared ones."""

from __future__ import annotations

from typing import Any

from corral.jsontypes import JsonObject

_NAMING = {"properties", "patternProperties", "$defs", "definitions"}
_OPENING = {"additionalProperties", "unevaluatedProperties", "patternProperties"}
_COMBINING = {"$ref", "anyOf", "oneOf", "if", "not", "dependentSchemas", "dependencies"}
_DATA = {"enum", "const", "default", "examples"}


def only_declared(schema: JsonObject) -> JsonObject:
    """The schema with no properties but the declared ones, where it does not say.

    A model that may invent properties does. What fits the result fits the original. A schema that
    combines others is left alone: closing its parts could make them exclude each other.
    """
    return schema if _combines(schema) else _closed(schema)


def _combines(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_combines, value))
    if not isinstance(value, dict):
        return False
    if "allOf" in value or ("properties" in value and _COMBINING & value.keys()):
        return True
    return any(map(_combines, value.values()))


def _closed(schema: JsonObject) -> JsonObject:
    result = {
        key: value if key in _DATA else _closed_part(value, names=key in _NAMING)
        for key, value in schema.items()
    }
    declared = schema.get("properties")
    # Something that has to be there and is not declared needs the others to be allowed.
    if isinstance(declared, dict) and not _OPENING & schema.keys():
        required = schema.get("required")
        if not isinstance(required, list) or all(name in declared for name in required):
            result["additionalProperties"] = False
    return result


def _closed_part(value: Any, *, names: bool) -> Any:
    """A keyword's value; with ``names`` an object from names of the schema's own to schemas."""
    if isinstance(value, list):
        return [_closed_part(item, names=False) for item in value]
    if not isinstance(value, dict):
        return value
    if names:
        return {key: _closed_part(item, names=False) for key, item in value.items()}
    return _closed(value)
