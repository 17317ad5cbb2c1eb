"""JSON Schema validators that count their steps, so that no schema keeps one busy for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Annotated, Any, cast

from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from pydantic import StringConstraints, TypeAdapter
from pydantic import ValidationError as PydanticError
from pydantic_core import SchemaError as PydanticSchemaError

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]
"""Checks one keyword: the validator, the keyword's value, the instance, the schema."""

_steps: ContextVar[list[int]] = ContextVar("_steps")


class TooMuchWorkError(Exception):
    """Applying a schema took more steps than it may."""


@contextmanager
def at_most(steps: int) -> Iterator[None]:
    """How many keywords the validators of ``bounded`` may check inside.

    One more raises ``TooMuchWorkError``. Not a time: a replay must come to the same verdict.
    """
    token = _steps.set([steps])
    try:
        yield
    finally:
        _steps.reset(token)


def bounded(base: type[Validator], replaced: Mapping[str, Keyword]) -> type[Validator]:
    """``base`` with every keyword counted, and some of them checked in another way."""
    keywords: Mapping[str, Keyword] = base.VALIDATORS
    checks = {name: replaced.get(name, check) for name, check in keywords.items()}
    counted = {name: _counted(check) for name, check in checks.items()}
    return cast("type[Validator]", cast("Any", extend)(base, validators=counted))


def matches(pattern: str, text: str) -> bool | None:
    """Whether a pattern occurs in a text, in linear time; ``None`` for one that is not known.

    The engine is pydantic's, which knows no looking around and no back-references.
    """
    matcher = _matcher(pattern)
    if matcher is None:
        return None
    try:
        matcher.validate_python(text)
    except PydanticError:
        return False
    return True


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> TypeAdapter[str] | None:
    try:
        return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])
    except PydanticSchemaError:
        return None


def _counted(check: Keyword) -> Keyword:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        left = _steps.get()
        left[0] -= 1
        if left[0] < 0:
            raise TooMuchWorkError
        yield from check(validator, value, instance, schema) or ()

    return counted
