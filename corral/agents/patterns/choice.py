"""Decisions for one of several names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeVar, cast

from pydantic import BaseModel, create_model

T = TypeVar("T", bound=BaseModel)


def one_of(decision: type[T], field: str, names: Iterable[str]) -> type[T]:
    """The decision, in which a text is one of the names; a grammar can hold a model to that."""
    name: Any = (cast("Any", Literal)[tuple(names)], ...)
    made: type[T] = cast("Any", create_model)(decision.__name__, __base__=decision, **{field: name})
    return made
