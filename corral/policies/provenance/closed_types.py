"""Types that no instruction fits into: numbers, booleans, dates, and choices among named values.

What has such a type can be wrong, but it cannot tell a model what to do. JSON Schemas here have
been checked to be schemas, and values to fit them; formats, which JSON Schema does not insist on,
are checked here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from corral.jsontypes import Json, JsonObject

MAX_LETTERS = 12
"""Letters that a text of a pattern may choose: enough for a code, too few for a sentence."""

MAX_ITEMS = 20
MAX_LIST_LETTERS = 36
"""Items of a list of such texts, and their letters: they must not become a sentence either."""

_MAX_DEPTH = 16
_MAX_LENGTH = 64
_FORMATS = {
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "date-time": datetime.fromisoformat,
}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}
_PIECE = re.compile(
    r"(?P<one>\\d|\[[^\]\\^]+\]|\\[-./_:]|[A-Za-z0-9\-_:/])"
    r"(?:\{(?P<low>\d{1,2})(?:,(?P<high>\d{1,2}))?\}|(?P<maybe>\?))?"
)
_CLASS = re.compile(r"(?:[A-Za-z0-9]-[A-Za-z0-9]|[A-Za-z0-9_:/.-])+")


class NotOfType(ValueError):
    """A value is not of a declared type; the message says where."""


def is_closed(schema: Json) -> bool:
    """Whether every value of the type leaves no room for free text.

    Closed are numbers, booleans, null, ``enum`` and ``const``, dates and times by ``format``,
    short codes by an anchored ``pattern`` without repetition or spaces, and lists and objects of
    these. Objects are taken for their declared properties alone: see ``pruned``.
    """
    return _Type(schema, schema).is_closed(0)


def pruned(schema: Json, value: Json) -> Json:
    """A value that fits the schema, without the properties that the type does not declare.

    Raises ``NotOfType`` for a date or a time that is none.
    """
    pruned: Json = _Type(schema, schema).pruned(value, "")
    return pruned


@dataclass(frozen=True)
class _Type:
    """A part of a schema, and the whole in which its references are found."""

    schema: Any
    root: Any

    def _inner(self, schema: Any) -> _Type:
        return _Type(schema, self.root)

    def _resolved(self) -> Any:
        """What a reference within the schema refers to; ``None`` if it leads nowhere."""
        found = self.root
        for part in str(self.schema["$ref"]).removeprefix("#").strip("/").split("/"):
            found = found.get(part) if part and isinstance(found, dict) else None
        return found

    def _branches(self) -> Sequence[Any]:
        return [*self.schema.get("anyOf", ()), *self.schema.get("oneOf", ())]

    def _is_of_one(self) -> bool:
        """Whether all that it says is said by one part: what several say cannot be told apart."""
        return len(self.schema.get("allOf", ())) == 1 and not {"type", "properties"} & {
            *self.schema
        }

    def is_closed(self, depth: int) -> bool:
        """See ``is_closed``."""
        schema = self.schema
        if not isinstance(schema, dict) or depth > _MAX_DEPTH:
            return schema is False
        if "enum" in schema or "const" in schema:
            return True
        if "$ref" in schema:
            return self._inner(self._resolved()).is_closed(depth + 1)
        if branches := self._branches():
            return all(self._inner(one).is_closed(depth + 1) for one in branches)
        if self._is_of_one():
            return self._inner(schema["allOf"][0]).is_closed(depth + 1)
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        return all(self._is_closed_kind(kind, depth) for kind in kinds)

    def _is_closed_kind(self, kind: Any, depth: int) -> bool:
        if kind in ("null", "boolean", "integer", "number"):
            return True
        if kind == "string":
            return (
                self.schema.get("format") in _FORMATS
                or _letters(self.schema.get("pattern")) <= MAX_LETTERS
            )
        if kind == "array":
            return self._is_closed_list(depth)
        if kind != "object" or isinstance(self.schema.get("additionalProperties"), dict):
            return False
        fields = self.schema.get("properties")
        if not isinstance(fields, dict) or "patternProperties" in self.schema:
            return False
        return all(self._inner(one).is_closed(depth + 1) for one in fields.values())

    def _is_closed_list(self, depth: int) -> bool:
        items = self.schema.get("items")
        if not self._inner(items).is_closed(depth + 1) or "prefixItems" in self.schema:
            return False
        if not (isinstance(items, dict) and "pattern" in items):
            return True
        most = self.schema.get("maxItems", MAX_ITEMS + 1)
        return bool(most <= MAX_ITEMS and most * _letters(items["pattern"]) <= MAX_LIST_LETTERS)

    def pruned(self, value: Any, where: str, depth: int = 0) -> Any:
        """See ``pruned``."""
        schema = self.schema
        if not isinstance(schema, dict) or depth > _MAX_DEPTH or {"enum", "const"} & schema.keys():
            return value
        if "$ref" in schema:
            return self._inner(self._resolved()).pruned(value, where, depth + 1)
        if self._is_of_one():
            return self._inner(schema["allOf"][0]).pruned(value, where, depth + 1)
        if branches := self._branches():
            return self._of_a_branch(branches, value, where, depth)
        _require_kind(schema, value, where)
        if isinstance(value, list):
            item = self._inner(schema.get("items"))
            return [item.pruned(one, f"{where}[{at}]", depth + 1) for at, one in enumerate(value)]
        if isinstance(value, dict) and "properties" in schema:
            return {
                name: self._inner(one).pruned(value[name], f"{where}.{name}", depth + 1)
                for name, one in schema["properties"].items()
                if name in value
            }
        return value

    def _of_a_branch(self, branches: Sequence[Any], value: Any, where: str, depth: int) -> Any:
        wrong: NotOfType | None = None
        for branch in branches:
            try:
                return self._inner(branch).pruned(value, where, depth + 1)
            except NotOfType as error:
                wrong = wrong or error
        assert wrong is not None
        raise wrong


def _require_kind(schema: JsonObject, value: Any, where: str) -> None:
    kinds = schema.get("type", list(_TYPES))
    kinds = kinds if isinstance(kinds, list) else [kinds]
    allowed = tuple(one for kind in kinds for one in _TYPES.get(kind, ()))
    is_number = isinstance(value, bool) and bool not in allowed
    if not isinstance(value, allowed) or is_number:
        raise NotOfType(f"{where or 'the value'} is not of the type {' or '.join(kinds)}")
    if isinstance(value, dict):
        missing = [name for name in schema.get("required", ()) if name not in value]
        if missing:
            raise NotOfType(f"{where or 'the value'} lacks {missing[0]}")
    read = _FORMATS.get(schema.get("format", ""))
    if isinstance(value, str) and read is not None:
        try:
            read(value)
        except ValueError as error:
            raise NotOfType(f"{where or 'the value'} is no {schema['format']}") from error


def _letters(pattern: Any) -> float:
    """How many letters a pattern of codes lets one choose; infinite for any other pattern.

    A pattern of codes is anchored and bounded, and has no spaces.
    """
    if not isinstance(pattern, str) or not (pattern.startswith("^") and pattern.endswith("$")):
        return math.inf
    body, at, letters, length = pattern[1:-1], 0, 0, 0
    while at < len(body):
        piece = _PIECE.match(body, at)
        if piece is None:
            return math.inf
        one, most = piece["one"], int(piece["high"] or piece["low"] or 1)
        if one.startswith("["):
            if not _CLASS.fullmatch(one[1:-1]):
                return math.inf
            letters += most * any(c.isalpha() for c in one)
        at, length = piece.end(), length + most
    return letters if length <= _MAX_LENGTH else math.inf
