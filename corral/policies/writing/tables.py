"""Reading one table of a list (``[[rules]]``, ``[[cases]]``) into its model, or saying why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from corral.errors import ConfigError
from corral.jsontypes import JsonObject, canonical
from corral.policies.writing.documents import Document, as_toml, listed, suggest

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Place:
    """The ``number``-th table of the list ``key`` in a document; one is called ``noun``."""

    document: Document
    key: str
    noun: str
    number: int

    @property
    def name(self) -> str:
        """The table in words."""
        return f"{self.noun} {self.number}"

    def error(self, what: str, hint: str, key: str | None = None) -> ConfigError:
        """A mistake in this table, at one of its keys."""
        if key is None:
            line = self.document.line_of_table(self.key, self.number)
        else:
            line = self.document.line_in(self.key, self.number, key)
        return self.document.error(what, hint, line)


def read_table(model: type[M], data: JsonObject, place: Place) -> M:
    """The model of one table. Raises ``ConfigError`` with the line and the remedy."""
    fields = model.model_fields
    for key in data:
        if key not in fields:
            raise place.error(
                f"{place.name} has a key {key!r}, which means nothing",
                suggest(key, fields) or f"Use {listed(fields)}.",
                key,
            )
    for key, field in fields.items():
        if field.is_required() and key not in data:
            words = [word for word in get_args(field.annotation) if isinstance(word, str)]
            raise place.error(
                f"{place.name} has no {key}", f"Add {key} = {listed(words) if words else '…'}."
            )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        loc = [str(part) for part in first["loc"]] or [place.key]
        what = f"{'.'.join(loc)} = {as_toml(first['input'])} in {place.name} cannot be understood"
        raise place.error(what, _remedy(first, loc[0]), loc[0]) from error


def _remedy(problem: ErrorDetails, key: str) -> str:
    value: Any = problem["input"]
    match problem["type"]:
        case "literal_error":
            words = [word.strip("'") for word in problem["ctx"]["expected"].split(" or ")]
            words = [part for word in words for part in word.split("', '")]
            return suggest(value, words) or f"Use {listed(words)}."
        case "string_type" if isinstance(value, bool | int | float):
            return f'Patterns are texts: write "{canonical(value)}" in quotes.'
        case "string_type":
            return "Write a text in double quotes."
        case "dict_type":
            return f'Write a table, such as {key} = {{path = "reports/**"}}.'
        case "tuple_type":
            return f'Write a list, such as {key} = ["a", "b"].'
        case "bool_type":
            return "Write true or false, without quotes."
        case "extra_forbidden":
            return "Remove it: it means nothing there."
        case _:
            return f"{problem['msg'].removeprefix('Value error, ')}."
