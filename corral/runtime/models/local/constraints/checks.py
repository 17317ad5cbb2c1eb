"""Checks what a model wrote against all of a schema, in bounded work.

A grammar cannot hold every keyword, so what it made is checked afterwards. Both the schema and the
value are untrusted: patterns run in bounded time and every step is counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, cast

from jsonschema import FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import Draft4Validator, Draft202012Validator, extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from corral.jsontypes import Json, JsonObject, canonical
from corral.runtime.models.local.constraints.patterns import PatternTimeoutError, found

_MAX_STEPS = 100_000
_SHOWN = 3
_LONGEST = 200
_OLD_BOUNDS = ("exclusiveMinimum", "exclusiveMaximum")
_FORMATS = FormatChecker()
_steps: ContextVar[list[int]] = ContextVar("_steps")
_Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


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
    token = _steps.set([_MAX_STEPS])
    lines: list[str] = []
    try:
        for error in _validator(canonical(schema)).iter_errors(value):
            lines.append(_line(error))
            if len(lines) == _SHOWN:
                break
    except (_TooMuchWorkError, PatternTimeoutError, RecursionError):
        lines.append("It is too complex to be checked. Make it smaller.")
    except (Unresolvable, ArithmeticError) as error:
        lines.append(f"It cannot be checked: {error}"[:_LONGEST])
    finally:
        _steps.reset(token)
    return lines


def knows_format(name: str) -> bool:
    """Whether a ``format`` is checked, and not only an annotation."""
    return name in _FORMATS.checkers


def dialect(schema: JsonObject | bool) -> type[Validator]:
    """The dialect that a schema is written in: the newest, unless it says or shows another."""
    if isinstance(schema, dict) and "$schema" not in schema and _old_bounds(schema):
        return Draft4Validator
    return validator_for(schema, default=Draft202012Validator)


class _TooMuchWorkError(Exception):
    """Checking took more steps than it may."""


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("an object has two values of one name")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _old_bounds(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_old_bounds, value))
    if not isinstance(value, dict):
        return False
    if any(isinstance(value.get(name), bool) for name in _OLD_BOUNDS):
        return True
    return any(map(_old_bounds, value.values()))


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


@lru_cache(maxsize=8)
def _bounded(base: type[Validator]) -> type[Validator]:
    """``base`` with every keyword counted, and those replaced that search for patterns."""
    keywords: Mapping[str, _Keyword] = base.VALIDATORS
    replaced: dict[str, _Keyword] = {
        **keywords,
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
    }
    known = {name: _counted(check) for name, check in replaced.items() if name in keywords}
    return cast("type[Validator]", cast("Any", extend)(base, validators=known))


def _counted(check: _Keyword) -> _Keyword:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        left = _steps.get()
        left[0] -= 1
        if left[0] < 0:
            raise _TooMuchWorkError
        yield from check(validator, value, instance, schema) or ()

    return counted


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
