"""JSON Schemas as providers take them: a plain object at the top, and strict where that is safe.

A provider that is asked for *strict* arguments samples them under the schema, and takes only some
schemas: closed objects, few keywords. A schema is made strict only where no valid argument is
lost by it but members that nobody named; otherwise it is sent as it is, and what comes back is
validated anyway, wherever the model runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from corral.jsontypes import JsonObject

_COMPOSED = ("anyOf", "oneOf", "allOf")
_ANNOTATIONS = frozenset(
    {"$schema", "$id", "$comment", "default", "examples", "deprecated", "readOnly", "writeOnly"}
)
"""Keywords that no value depends on."""

_SHAPES = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const"}
    | {"anyOf", "$ref", "$defs", "description", "title", "format"}
)
_BOUNDS = frozenset(
    {"pattern", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    | {"minItems", "maxItems"}
)
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)


@dataclass(frozen=True)
class Strictness:
    """What a provider takes in the strict schemas of a request.

    There may be so many ``schemas``, and in all of them together so many members that may be left
    out (``optional``) and ``unions``; in each so many ``members`` of objects and ``values`` of
    enumerations.
    """

    keywords: frozenset[str]
    optional: int
    unions: int
    recursion: bool
    schemas: int = 1000
    depth: int = 10
    members: int = 1000
    values: int = 500


OPENAI = Strictness(_SHAPES | _BOUNDS, optional=0, unions=1000, recursion=True)
"""See https://platform.openai.com/docs/guides/structured-outputs#supported-schemas"""

ANTHROPIC = Strictness(_SHAPES, optional=24, unions=16, recursion=False, schemas=20)
"""See https://platform.claude.com/docs/en/build-with-claude/structured-outputs"""


def object_schema(schema: Mapping[str, Any]) -> JsonObject:
    """An argument schema that is a plain object at the top, accepting at least what it accepted.

    Alternatives at the top (``anyOf``, ``oneOf``, ``allOf``) become one object with the
    properties of all of them; other combinators at the top are left out.
    """
    left_out = (*_COMPOSED, "enum", "not", "const", "if", "then", "else")
    plain: JsonObject = {key: value for key, value in schema.items() if key not in left_out}
    properties: JsonObject = {}
    for branches in (schema[key] for key in _COMPOSED if key in schema):
        plain.pop("additionalProperties", None)
        for branch in branches if isinstance(branches, list) else ():
            properties |= _properties(branch)
    return {**plain, "type": "object", "properties": properties | _properties(plain)}


def _properties(schema: Any) -> JsonObject:
    found = schema.get("properties") if isinstance(schema, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def strict_schema(schema: Mapping[str, Any], rules: Strictness) -> JsonObject | None:
    """The schema with closed objects; ``None`` where it cannot be strict and mean the same."""
    return strict_schemas([schema], rules)[0]


def strict_schemas(
    schemas: Sequence[Mapping[str, Any]], rules: Strictness
) -> list[JsonObject | None]:
    """The same for the schemas of one request, the first of which are strict if not all can be."""
    made: list[JsonObject | None] = []
    for schema in schemas:
        closing = _Closing(rules)
        closed = _closed(schema, closing, rules)
        made.append(closed)
        if closed is not None:
            rules = closing.left()
    return made


def _closed(schema: Mapping[str, Any], closing: _Closing, rules: Strictness) -> JsonObject | None:
    is_object = schema.get("type") == "object" and "properties" in schema
    if not is_object or "anyOf" in schema or not rules.schemas:
        return None
    try:
        closed = closing.schema(schema, depth=0)
    except _NotStrict:
        return None
    return None if not rules.recursion and _is_recursive(closed) else closed


class _NotStrict(Exception):
    """Something in a schema is more than strict schemas can say."""


class _Closing:
    """One walk through a schema, which counts what providers limit."""

    def __init__(self, rules: Strictness) -> None:
        self._rules = rules
        self._members = 0
        self._optional = 0
        self._unions = 0
        self._values = 0

    def left(self) -> Strictness:
        """What is left for the other schemas of the request."""
        return replace(
            self._rules,
            schemas=self._rules.schemas - 1,
            optional=self._rules.optional - self._optional,
            unions=self._rules.unions - self._unions,
        )

    def schema(self, schema: Any, depth: int) -> JsonObject:
        if not isinstance(schema, Mapping) or depth > self._rules.depth:
            raise _NotStrict
        kept = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
        kind = kept.get("type")
        says = ("type", "enum", "const", "anyOf", "$ref")
        if not set(kept) <= self._rules.keywords or not any(key in kept for key in says):
            raise _NotStrict
        if kept.get("format", "date") not in _FORMATS:
            raise _NotStrict
        self._count(kept)
        if kind == "object" or "properties" in kept:
            kept |= self._object(kept, depth)
        if "items" in kept:
            kept["items"] = self.schema(kept["items"], depth + 1)
        elif kind == "array":
            raise _NotStrict
        if "anyOf" in kept:
            kept["anyOf"] = [self.schema(one, depth + 1) for one in _list(kept["anyOf"])]
        if "$defs" in kept:
            named = kept["$defs"]
            if not isinstance(named, Mapping):
                raise _NotStrict
            kept["$defs"] = {name: self.schema(one, 1) for name, one in named.items()}
        return kept

    def _object(self, schema: Mapping[str, Any], depth: int) -> JsonObject:
        properties = schema.get("properties")
        # A map from any name, and an object of which nothing is known, cannot be closed.
        if not isinstance(properties, Mapping) or schema.get("additionalProperties", False):
            raise _NotStrict
        if not properties and depth:
            raise _NotStrict
        required = _list(schema.get("required", []))
        if not all(isinstance(name, str) and name in properties for name in required):
            raise _NotStrict
        self._members += len(properties)
        self._optional += len(properties) - len(set(required))
        if self._members > self._rules.members or self._optional > self._rules.optional:
            raise _NotStrict
        closed = {name: self.schema(one, depth + 1) for name, one in properties.items()}
        return {"properties": closed, "required": required, "additionalProperties": False}

    def _count(self, schema: Mapping[str, Any]) -> None:
        self._unions += "anyOf" in schema or isinstance(schema.get("type"), list)
        self._values += len(_list(schema.get("enum", [])))
        if self._unions > self._rules.unions or self._values > self._rules.values:
            raise _NotStrict


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _NotStrict
    return value


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a reference leads back to where it stands, or to where nobody can follow it."""
    named = schema.get("$defs") or {}
    uses = {f"#/$defs/{name}": set(_references(one)) for name, one in named.items()}
    top = {key: value for key, value in schema.items() if key != "$defs"}
    todo, reached = list(_references(top)), set[str]()
    while todo:
        reference = todo.pop()
        if reference not in uses:
            return True
        if reference not in reached:
            reached.add(reference)
            todo.extend(uses[reference])
    return any(_leads_back(one, uses) for one in reached)


def _leads_back(start: str, uses: Mapping[str, set[str]]) -> bool:
    todo, seen = list(uses[start]), set[str]()
    while todo:
        reference = todo.pop()
        if reference == start:
            return True
        if reference not in seen:
            seen.add(reference)
            todo.extend(uses.get(reference, ()))
    return False


def _references(value: Any) -> Iterator[str]:
    todo = [value]
    for item in todo:  # which grows meanwhile
        if isinstance(item, Mapping):
            if isinstance(item.get("$ref"), str):
                yield item["$ref"]
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
