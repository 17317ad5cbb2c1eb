"""JSON Schemas from untrusted hands: checked once, then applied in bounded time.

A schema may be built to hang whoever applies it: a pattern that backtracks for ever, references in
a circle, branches that double at every level. So patterns run on a linear-time engine, every step
is counted, and nothing is ever fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from jsonschema.exceptions import ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from corral.jsontypes import Json, JsonObject, canonical
from corral.tools.bounded_validators import Keyword, TooMuchWorkError, at_most, bounded, matches
from corral.tools.contract import ToolSpec
from corral.tools.text import clean, one_line

MAX_SCHEMA = 64 * 1024
"""The largest schema of one tool, in characters of JSON."""

MAX_DEPTH = 32
"""How deep a schema may be nested."""

_MAX_STEPS = 30_000
_SHOWN_ERRORS = 5
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


class UnusableSchemaError(Exception):
    """A schema cannot be used; the message says why."""


def checked_schema(schema: object, *, of_object: bool = True) -> JsonObject:
    """A copy of ``schema`` with its texts cleaned, once it is known to be usable.

    It must be a JSON Schema, of an object where ``of_object``, of bounded size, and refer to
    nothing outside itself. Raises ``UnusableSchemaError``.
    """
    if not isinstance(schema, dict):
        raise UnusableSchemaError("it is not a JSON object")
    copy = _cleaned(schema, MAX_DEPTH)
    assert isinstance(copy, dict)
    if of_object and copy.setdefault("type", "object") != "object":
        raise UnusableSchemaError(f"its type is {one_line(str(copy['type']), 40)}, not object")
    text = canonical(copy)
    if len(text) > MAX_SCHEMA:
        raise UnusableSchemaError(f"it is longer than {MAX_SCHEMA:,} characters")
    if wrong := _wrong_with(text):
        raise UnusableSchemaError(wrong)
    return copy


def validate_args(spec: ToolSpec, args: JsonObject) -> str | None:
    """What is wrong with ``args`` for this tool, for the model to read; ``None`` if nothing."""
    try:
        faults = argument_faults(spec, args)
    except TooMuchWorkError:
        return f"The arguments of {spec.name} are too complex to be checked. Make them smaller."
    if not faults:
        return None
    lines = [f"- {fault}" for fault in faults]
    return "\n".join([f"The arguments do not fit {spec.name}:", *lines])


def argument_faults(spec: ToolSpec, args: JsonObject) -> list[str]:
    """Each thing that is wrong with ``args``: the field, what was expected, what is there.

    Raises ``TooMuchWorkError`` when that cannot be told.
    """
    if _fits_plainly(spec.input_schema, args):
        return []
    return [_message(error) for error in _errors(_input_validator(spec), args)]


def check_output(spec: ToolSpec, value: Json) -> str | None:
    """How ``value`` breaks the tool's own output schema; ``None`` when it does not.

    Raises ``TooMuchWorkError`` when that cannot be told.
    """
    validator = _output_validator(spec)
    errors = _errors(validator, value) if validator else []
    return _message(errors[0]) if errors else None


@lru_cache(maxsize=1024)
def _wrong_with(text: str) -> str:
    """How the schema written as ``text`` breaks its dialect's metaschema, or nothing."""
    schema = json.loads(text)
    dialect = _dialect(schema)
    error = best_match(dialect(dialect.META_SCHEMA).iter_errors(schema))
    if error is None:
        return ""
    where = "/".join(str(part) for part in error.absolute_path)
    return one_line(f"at /{where}: {error.message}")


def _cleaned(value: object, depth: int) -> object:
    if depth == 0:
        raise UnusableSchemaError(f"it is nested more than {MAX_DEPTH} deep")
    match value:
        case str():
            return clean(value)
        case list():
            return [_cleaned(item, depth - 1) for item in value]
        case dict():
            for key in _REFERENCES:
                target = value.get(key)
                if isinstance(target, str) and not target.startswith("#"):
                    raise UnusableSchemaError(
                        f"it refers to {one_line(target, 80)}, outside itself; nothing is fetched"
                    )
            return {clean(key): _cleaned(item, depth - 1) for key, item in value.items()}
        case _:
            return value


@lru_cache(maxsize=512)
def _input_validator(spec: ToolSpec) -> Validator:
    return _validator(spec.input_schema)


@lru_cache(maxsize=512)
def _output_validator(spec: ToolSpec) -> Validator | None:
    return None if spec.output_schema is None else _validator(spec.output_schema)


def _validator(schema: JsonObject) -> Validator:
    return _bounded(_dialect(schema))(schema, registry=Registry())


def _dialect(schema: JsonObject) -> type[Validator]:
    return validator_for(schema, default=Draft202012Validator)  # unknown dialects read as this one


def _errors(validator: Validator, value: Json) -> list[ValidationError]:
    """The first few errors; a schema that breaks off when applied counts as one that allows all.

    What it meant is unknown then, and the server, whose schema it is, checks for itself.
    """
    found: list[ValidationError] = []
    with at_most(_MAX_STEPS), suppress(Unresolvable, RecursionError, ArithmeticError):
        for error in validator.iter_errors(value):
            found.append(error)  # these count even when a later one cannot be told
            if len(found) == _SHOWN_ERRORS:
                break
    return found


_PLAIN = {"type", "properties", "required", "additionalProperties", "title", "description"}
_PLAIN_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def _fits_plainly(schema: JsonObject, args: JsonObject) -> bool:
    """Whether ``args`` certainly fit: most tools take a few texts and numbers and no more.

    The validator takes a hundred times as long, and is asked about everything else.
    """
    properties = schema.get("properties", {})
    if schema.get("type") != "object" or schema.keys() - _PLAIN:
        return False
    if not args.keys() <= properties.keys():
        return False
    if any(name not in args for name in schema.get("required", ())):
        return False
    return all(_is_plainly(properties[name], value) for name, value in args.items())


def _is_plainly(schema: Any, value: Json) -> bool:
    if not isinstance(schema, dict) or schema.keys() - _PLAIN_KEYWORDS:
        return False
    kind = schema.get("type")
    if not isinstance(kind, str) or type(value) not in _PLAIN_TYPES.get(kind, ()):
        return False
    if isinstance(value, str):
        return _is_between(len(value), schema.get("minLength"), schema.get("maxLength"))
    return isinstance(value, bool) or _is_between(
        value, schema.get("minimum"), schema.get("maximum")
    )


def _is_between(value: Any, least: Any, most: Any) -> bool:
    """Whether both bounds are plain numbers or missing, and hold."""
    return all(one is None or type(one) in (int, float) for one in (least, most)) and (
        (least is None or value >= least) and (most is None or value <= most)
    )


_PLAIN_KEYWORDS = {"type", "title", "description", "default"} | {
    *("minimum", "maximum"),
    *("minLength", "maxLength"),
}


def _message(error: ValidationError) -> str:
    """One error in words: the field, what was expected, what is there."""
    field = ".".join(one_line(str(part), 60) for part in error.absolute_path) or "the whole"
    match error.validator, error.validator_value:
        case "type", expected:
            return f"{field}: expected {_shown(expected)}, got {_shown(error.instance)}"
        case "enum", [*choices]:
            return f"{field}: expected one of {_shown(choices)}, got {_shown(error.instance)}"
        case "const", expected:
            return f"{field}: expected {_shown(expected)}, got {_shown(error.instance)}"
        case "anyOf" | "oneOf", _:
            wanted = _shown(error.validator_value)
            return f"{field}: expected one of the forms {wanted}, got {_shown(error.instance)}"
        case _:
            return f"{field}: {one_line(error.message)}"


def _shown(value: object) -> str:
    return one_line(json.dumps(value, ensure_ascii=False, default=str), 120)


# the bounded validator


@lru_cache(maxsize=8)
def _bounded(base: type[Validator]) -> type[Validator]:
    """``base`` with every keyword counted, and those replaced that may take exponential time."""
    replaced: dict[str, Keyword] = {
        "pattern": _pattern,
        "patternProperties": _ignored,
        "unevaluatedProperties": _ignored,
        "additionalProperties": _additional(base.VALIDATORS.get("additionalProperties", _ignored)),
        "uniqueItems": _unique_items,
    }
    return bounded(base, replaced)


def _ignored(validator: Any, value: Any, instance: Any, schema: Any) -> None:
    """Needs patterns on Python's backtracking engine, so it is left to the server."""
    del validator, value, instance, schema


def _additional(check: Keyword) -> Keyword:
    def additional(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if not schema.get("patternProperties"):
            yield from check(validator, value, instance, schema) or ()

    return additional


def _pattern(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    del schema
    if validator.is_type(instance, "string") and matches(value, instance) is False:
        yield ValidationError(f"{one_line(instance, 80)!r} does not match {one_line(value, 80)!r}")


def _unique_items(
    validator: Any, value: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    del schema
    if value and validator.is_type(instance, "array"):
        texts = [canonical(item) for item in instance]
        if len(set(texts)) < len(texts):
            yield ValidationError("an item occurs more than once, and each may only once")
