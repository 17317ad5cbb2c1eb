"""What of JSON Schema the arguments of our tools use, checked without a library."""

from __future__ import annotations

from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def mismatch(value: object, schema: dict[str, Any]) -> str:
    """What is wrong with a value, in words that follow its name; empty when nothing is."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(_is_of(value, kind) for kind in kinds):
        return f"must be of type {' or '.join(kinds)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"must be one of {', '.join(map(repr, schema['enum']))}"
    match value:
        case bool():
            return ""
        case int() | float():
            return _bad_number(value, schema)
        case str():
            return _bad_length(value, schema)
        case list():
            return _bad_items(value, schema)
        case dict():
            return _bad_members(value, schema)
    return ""


def _is_of(value: object, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (not isinstance(value, bool) or kind == "boolean")


def _bad_number(value: float, schema: dict[str, Any]) -> str:
    if not float("-inf") < value < float("inf"):
        return "must be a finite number"
    if value < schema.get("minimum", value):
        return f"must be at least {schema['minimum']}"
    return f"must be at most {schema['maximum']}" if value > schema.get("maximum", value) else ""


def _bad_length(value: str, schema: dict[str, Any]) -> str:
    if len(value) < schema.get("minLength", 0):
        return "must not be empty"
    most = schema.get("maxLength", len(value))
    return f"must be at most {most} characters" if len(value) > most else ""


def _bad_items(value: list[object], schema: dict[str, Any]) -> str:
    if len(value) < schema.get("minItems", 0):
        return f"must hold at least {schema['minItems']}"
    if len(value) > schema.get("maxItems", len(value)):
        return f"must hold at most {schema['maxItems']}"
    faults = (mismatch(item, schema["items"]) for item in value if "items" in schema)
    return next((f"must hold items of which each {fault}" for fault in faults if fault), "")


def _bad_members(value: dict[str, object], schema: dict[str, Any]) -> str:
    known = schema.get("properties")
    if known is None:
        return ""
    missing = [name for name in schema.get("required", ()) if name not in value]
    unknown = [name for name in value if name not in known]
    if missing or unknown:
        return f"needs {missing[0]!r}" if missing else f"must not have {unknown[0]!r}"
    faults = ((name, mismatch(item, known[name])) for name, item in value.items())
    return next((f"has a {name!r} that {fault}" for name, fault in faults if fault), "")
