"""Walks through a schema and sorts its keywords into what a grammar holds and what it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from llguidance import LLMatcher

from corral.jsontypes import JsonObject
from corral.runtime.models.local.constraints.checks import dialect, knows_format
from corral.runtime.models.local.constraints.patterns import usable

MAX_DEPTH = 48
"""How deep schemas may be nested in each other."""

_MAX_LENGTH = 5_000
_MAX_BOUND = 2**53
_MAX_MULTIPLE = 1_000
_TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "additionalItems")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_CHECKED = frozenset(
    {
        "not",
        "if",
        "uniqueItems",
        "contains",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "propertyNames",
        "unevaluatedProperties",
        "unevaluatedItems",
        "$dynamicRef",
        "$recursiveRef",
        "disallow",
        "extends",
    }
)
_KEPT = frozenset({"type", "enum", "const", "required", "$id", "id", "$anchor"})
_OLD = ("draft-03", "draft-04", "draft-06", "draft-07")


class RefusedSchemaError(Exception):
    """A schema cannot be used at all; the message says why, and where in it."""


@dataclass(frozen=True)
class Doubt:
    """Keywords that a grammar is not to hold this time. ``one_of`` may be held as ``anyOf``."""

    keywords: frozenset[str] = frozenset()
    one_of: bool = False


@dataclass
class Walk:
    """What was found on the way through a schema."""

    grammar: JsonObject = field(default_factory=dict)
    checked: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def walked(schema: JsonObject | bool, doubt: Doubt) -> Walk:
    """The part of a schema that a grammar can hold; raises ``RefusedSchemaError``."""
    walker = _Walker(schema, doubt)
    made = walker.part(schema, "")
    if made is False:
        raise RefusedSchemaError("nothing fits it: the schema is false")
    walker.walk.grammar = made if isinstance(made, dict) else {}
    return walker.walk


class _Walker:
    def __init__(self, root: JsonObject | bool, doubt: Doubt) -> None:
        self._root = root
        self._doubt = doubt
        self._old = isinstance(root, dict) and (
            any(name in str(root.get("$schema", "")) for name in _OLD)
            or "draft4" in dialect(root).__name__.lower()
        )
        self.walk = Walk()

    def part(self, schema: Any, path: str) -> JsonObject | bool:
        """One schema of those that are nested in each other."""
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise RefusedSchemaError(f"at {path or '/'} stands {schema!r:.60} and no schema")
        if path.count("/") > 2 * MAX_DEPTH:
            raise RefusedSchemaError(f"it is nested more than {MAX_DEPTH} deep")
        if self._old and "$ref" in schema:  # old drafts do not look at what stands beside it
            kept = ("$ref", "definitions", "$defs")
            schema = {key: schema[key] for key in kept if key in schema}
        made: JsonObject = {}
        for keyword, value in self._modern(schema).items():
            self._keyword(made, keyword, value, path)
        _check_counts(made, path)
        self._without_unheld_counts(made, path)
        return made

    def _modern(self, schema: JsonObject) -> JsonObject:
        """The schema in the words of the newest draft."""
        items = schema.get("items")
        if isinstance(items, list):
            rest = schema.get("additionalItems", True)
            schema = {k: v for k, v in schema.items() if k != "additionalItems"}
            schema = {**schema, "prefixItems": items, "items": rest}
        for name, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if isinstance(schema.get(name), bool):
                strict = schema[name] and bound in schema
                schema = {k: v for k, v in schema.items() if k != name}
                if strict:
                    schema = {name if k == bound else k: v for k, v in schema.items()}
        return schema

    def _keyword(self, made: JsonObject, keyword: str, value: Any, path: str) -> None:
        place = f"{path}/{keyword}"
        _PLAIN.get(keyword, _anything)(keyword, value, path)
        if keyword == "format" and not _compiles(keyword, str(value)):
            kind = self.walk.checked if knows_format(str(value)) else self.walk.ignored
            kind.append(f"{path or '/'}: format {str(value)[:40]}")
        elif keyword in self._doubt.keywords or self._cannot_hold(keyword, value, path):
            self._leave(keyword, path)
        elif keyword == "oneOf" and self._doubt.one_of:
            self._leave(keyword, path)
            made[keyword] = self._nested(keyword, value, place)
        elif keyword in (*_NAMED, *_LISTED, *_SINGLE):
            made[keyword] = self._nested(keyword, value, place)
        elif keyword in _COUNTS:
            made[keyword] = int(value)
        elif keyword in (*_KEPT, *_BOUNDS, "pattern", "format"):
            made[keyword] = value
        elif keyword == "$ref":
            self._check_reference(value, path)
            made[keyword] = value

    def _nested(self, keyword: str, value: Any, place: str) -> Any:
        if keyword in _NAMED:
            if not isinstance(value, dict):
                raise RefusedSchemaError(f"{place} is not an object")
            return {name: self.part(part, f"{place}/{name}") for name, part in value.items()}
        if keyword in _LISTED:
            if not isinstance(value, list) or not value:
                raise RefusedSchemaError(f"{place} is not a list of schemas")
            return [self.part(part, f"{place}/{at}") for at, part in enumerate(value)]
        return self.part(value, place)

    def _cannot_hold(self, keyword: str, value: Any, path: str) -> bool:
        """Whether a keyword says something that only a check can hold."""
        match keyword:
            case "pattern":
                _check_pattern(value, path)
                return not _compiles(keyword, value)
            case "patternProperties" if isinstance(value, dict):
                for pattern in value:
                    _check_pattern(pattern, path)
                return not all(_compiles("pattern", pattern) for pattern in value)
            case "minLength" | "maxLength":
                return isinstance(value, int | float) and value > _MAX_LENGTH
            case "multipleOf":
                return _is_number(value) and not _small_multiple(value)
            case _ if keyword in _BOUNDS:
                return _is_number(value) and abs(value) >= _MAX_BOUND
            case _:
                return keyword in _CHECKED and (keyword, value) != ("uniqueItems", False)

    def _leave(self, keyword: str, path: str) -> None:
        self.walk.checked.append(f"{path or '/'}: {keyword}")

    def _without_unheld_counts(self, made: JsonObject, path: str) -> None:
        """llguidance counts properties only where all of those declared are required."""
        optional = made.get("properties", {}).keys() - set(made.get("required", ()))
        for name in ("minProperties", "maxProperties"):
            if name in made and optional:
                del made[name]
                self._leave(name, path)

    def _check_reference(self, target: Any, path: str) -> None:
        if not isinstance(target, str):
            raise RefusedSchemaError(f"{path}/$ref is not a text")
        if not target.startswith("#"):
            if target.split("#")[0] not in _ids(self._root):
                raise RefusedSchemaError(
                    f"{path}/$ref refers to {target[:80]}, outside itself; nothing is fetched"
                )
        elif target.startswith("#/") and not _resolves(self._root, target):
            raise RefusedSchemaError(f"{path}/$ref refers to {target[:80]}, which is not there")


def _check_pattern(value: Any, path: str) -> None:
    if not isinstance(value, str) or not usable(value):
        raise RefusedSchemaError(f"at {path or '/'} the pattern {value!r:.80} cannot be used")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _small_multiple(value: float) -> bool:
    """Whether a grammar may count in steps of this: it takes a state for each digit's rest."""
    scaled = next((value * 10**n for n in range(4) if float(value * 10**n).is_integer()), None)
    return scaled is not None and 0 < scaled <= _MAX_MULTIPLE


@lru_cache(maxsize=512)
def _compiles(keyword: str, value: str) -> bool:
    grammar = LLMatcher.grammar_from_json_schema({"type": "string", keyword: value})
    return not LLMatcher.validate_grammar_with_warnings(grammar)[0]


def _ids(root: Any) -> set[str]:
    """All names that a schema and its parts give themselves."""
    found: set[str] = set()
    rest = [root]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            found |= {str(value[key]).rstrip("#") for key in ("$id", "id") if key in value}
            rest += value.values()
        elif isinstance(value, list):
            rest += value
    return found


def _resolves(root: Any, target: str) -> bool:
    value = root
    for step in target[2:].split("/"):
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return False
    return True


def _check_counts(schema: JsonObject, path: str) -> None:
    for low, high in (("minItems", "maxItems"), ("minLength", "maxLength")):
        if schema.get(low, 0) > schema.get(high, float("inf")):
            raise RefusedSchemaError(f"nothing fits it: at {path or '/'} {low} exceeds {high}")


# what a keyword's value has to be


def _type(keyword: str, value: Any, path: str) -> None:
    names = value if isinstance(value, list) else [value]
    wrong = [name for name in names if not isinstance(name, str) or name not in _TYPES]
    if wrong or not names:
        raise RefusedSchemaError(f"{path}/{keyword} is {value!r:.60}, which is no type")


def _names(keyword: str, value: Any, path: str) -> None:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise RefusedSchemaError(f"{path}/{keyword} is not a list of names")


def _values(keyword: str, value: Any, path: str) -> None:
    if not isinstance(value, list) or not value:
        raise RefusedSchemaError(f"{path}/{keyword} has no values: nothing fits it")


def _count(keyword: str, value: Any, path: str) -> None:
    if not _is_number(value) or value < 0 or value != int(value):
        raise RefusedSchemaError(f"{path}/{keyword} is {value!r:.60}, which is no count")


def _number(keyword: str, value: Any, path: str) -> None:
    if not _is_number(value) or (keyword == "multipleOf" and value <= 0):
        raise RefusedSchemaError(f"{path}/{keyword} is {value!r:.60}, which cannot be")


def _schema(keyword: str, value: Any, path: str) -> None:
    if not isinstance(value, dict | bool):
        raise RefusedSchemaError(f"{path}/{keyword} is {value!r:.60} and no schema")


def _object(keyword: str, value: Any, path: str) -> None:
    if not isinstance(value, dict):
        raise RefusedSchemaError(f"{path}/{keyword} is not an object")


def _anything(keyword: str, value: Any, path: str) -> None:
    del keyword, value, path


_PLAIN: Mapping[str, Callable[[str, Any, str], None]] = {
    **dict.fromkeys(_KEPT, _anything),
    **dict.fromkeys(_COUNTS, _count),
    **dict.fromkeys(_BOUNDS, _number),
    **dict.fromkeys(("not", "if", "then", "else", "contains", "propertyNames"), _schema),
    **dict.fromkeys(("dependentRequired", "dependentSchemas", "dependencies"), _object),
    "type": _type,
    "required": _names,
    "enum": _values,
    "pattern": _anything,
    "format": _anything,
}
