"""What every check is, how its texts are written, and how values are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator, model_validator

from corral.evals.grading import Evidence
from corral.jsontypes import Json, canonical


def _number_as_text(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


Content = Annotated[str, BeforeValidator(_number_as_text)]
"""Text; a number in YAML stands for its digits."""


class Check(BaseModel):
    """One check. The field with the check's own name holds what is expected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: ClassVar[str]

    def failure(self, evidence: Evidence) -> str | None:
        """Why the check fails, in words; ``None`` when it holds."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The check as it stands in the dataset, shortened."""
        return f"{self.key}: {brief(self.model_dump(mode='json', exclude_unset=True)[self.key])}"


class AnyOrAll(BaseModel):
    """Several texts, of which any one or all must be there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    any: tuple[Content, ...] = ()
    all: tuple[Content, ...] = ()

    @field_validator("any", "all")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(value):
            raise ValueError("give at least one text, and no empty one")
        return value

    @model_validator(mode="after")
    def _asks_for_something(self) -> AnyOrAll:
        if not self.any and not self.all:
            raise ValueError("give any or all, with at least one text")
        return self


def _as_all(value: object) -> object:
    if isinstance(value, Mapping | AnyOrAll):
        return value
    return {"all": value if isinstance(value, list | tuple) else [value]}


Texts = Annotated[AnyOrAll, BeforeValidator(_as_all)]


def same(found: Json, wanted: Json) -> bool:
    """Equal as JSON: 1 equals 1.0, but true is not 1."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        return found.keys() == wanted.keys() and all(same(found[k], wanted[k]) for k in wanted)
    if isinstance(found, list | tuple) and isinstance(wanted, list | tuple):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return math.isclose(found, wanted, rel_tol=1e-12, abs_tol=0)
    return found == wanted


def subset(wanted: Json, found: Json) -> bool:
    """Whether ``found`` has at least the keys of ``wanted``, with its values, at every level."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            key in found and subset(value, found[key]) for key, value in wanted.items()
        )
    return same(found, wanted)


def brief(value: Json, length: int = 120) -> str:
    """The value's JSON, cut at ``length`` characters."""
    text = canonical(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"
