"""Checks what a model wrote against all of a schema, in bounded work.

A grammar cannot hold every keyword, so what it made is checked afterwards. Both the schema and the
value are untrusted: patterns run in bounded time and every step is counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from jsonschema import FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import (
    Draft4Validator,
    Draft201909Validator,
    Draft202012Validator,
    validator_for,
)
from referencing import Registry
from referencing.exceptions import Unresolvable

from corral.jsontypes import Json, JsonObject, canonical
from corral.runtime.models.local.constraints.patterns import PatternTimeoutError, found
from corral.tools.bounded_validators import Keyword, TooMuchWorkError, at_most, bounded

_MAX_STEPS = 100_000
_SHOWN = 3
_LONGEST = 200
_OLD_BOUNDS = ("exclusiveMinimum", "exclusiveMaximum")
_FORMATS = FormatChecker()


class NotJsonError(Exception):
    """A text is not one JSON value as others would read it; the message says why."""


def parsed(text: str) -> Any:
    """The value of a JSON text.

    Raises ``NotJsonError`` also for what only some readers take: a name that occurs twice in an
    object, a number beyond all bounds, half of a surrogate pair.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except RecursionError:
        raise NotJsonError("it is nested too deep") from None
    except UnicodeEncodeError:
        raise NotJsonError("it has half of a surrogate pair in a text") from None
    except ValueError as error:
        raise NotJsonError(str(error)) from None
    return value


def violations(schema: JsonObject | bool, value: Json) -> list[str]:
    """How a value breaks a schema: the first few ways, in words for a model."""
    lines: list[str] = []
    try:
        with at_most(_MAX_STEPS):
            for error in _validator(canonical(schema)).iter_errors(value):
                lines.append(_line(error))
                if len(lines) == _SHOWN:
                    break
    except (TooMuchWorkError, PatternTimeoutError, RecursionError):
        lines.append("It is too complex to be checked. Make it smaller.")
    except (Unresolvable, ArithmeticError) as error:
        lines.append(f"It cannot be checked: {error}"[:_LONGEST])
    return lines


def knows_format(name: str) -> bool:
    """Whether a ``format`` is checked, and not only an annotation."""
    return name in _FORMATS.checkers


def dialect(schema: JsonObject | bool) -> type[Validator]:
    """The dialect that a schema is written in: the newest, unless it says or shows another."""
    if isinstance(schema, dict) and "$schema" not in schema:
        if _shows(schema, _is_old_bound):
            return Draft4Validator
        if _shows(schema, _is_old_list):
            return Draft201909Validator
    return validator_for(schema, default=Draft202012Validator)


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("an object has two values of one name")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _shows(value: Any, sign: Callable[[str, Any], bool]) -> bool:
    """Whether a keyword with its value stands somewhere that only some dialects have."""
    if isinstance(value, list):
        return any(_shows(item, sign) for item in value)
    if not isinstance(value, dict):
        return False
    return any(sign(name, item) or _shows(item, sign) for name, item in value.items())


def _is_old_bound(name: str, value: Any) -> bool:
    return name in _OLD_BOUNDS and isinstance(value, bool)


def _is_old_list(name: str, value: Any) -> bool:
    return name == "items" and isinstance(value, list)


def _line(error: ValidationError) -> str:
    where = "/".join(str(part) for part in error.absolute_path)
    message = error.message
    if error.validator in ("enum", "const"):
        message = f"expected one of {json.dumps(error.validator_value, ensure_ascii=False)}"
    if error.validator == "not":
        message = f"must not fit {json.dumps(error.validator_value, ensure_ascii=False)}"
    return f"/{where}: {message}"[:_LONGEST]


@lru_cache(maxsize=64)
def _validator(text: str) -> Validator:
    schema = json.loads(text)
    made = _bounded(dialect(schema))
    return made(schema, registry=Registry(), format_checker=_FORMATS)


def _pattern(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    del schema
    if validator.is_type(instance, "string") and not found(value, instance):
        yield ValidationError(f"{instance!r} does not match {value!r}")


def _pattern_properties(
    validator: Any, value: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    del schema
    if not validator.is_type(instance, "object"):
        return
    for pattern, part in value.items():
        for name in [name for name in instance if found(pattern, name)]:
            yield from validator.descend(instance[name], part, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, value: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    patterns = schema.get("patternProperties", {})
    declared = schema.get("properties", {})
    for name in [name for name in instance if name not in declared]:
        if any(found(pattern, name) for pattern in patterns):
            continue
        if value is False:
            yield ValidationError(f"there is no property {name!r}")
        else:
            yield from validator.descend(instance[name], value, path=name)


@lru_cache(maxsize=8)
def _bounded(base: type[Validator]) -> type[Validator]:
    """``base`` with those keywords replaced that search for patterns."""
    replaced: dict[str, Keyword] = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
    }
    return bounded(base, replaced)
