"""Finds out how much of a JSON Schema a grammar can hold, and names what it cannot.

A keyword is *constrained* (the grammar holds it), *checked* (what was written is checked against it
afterwards), *ignored* (an annotation that has no meaning here), or the schema is refused.
https://github.com/guidance-ai/llguidance/blob/main/docs/json_schema.md lists what grammars hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from llguidance import LLMatcher

from corral.jsontypes import JsonObject
from corral.runtime.models.local.constraints.walking import (
    Doubt,
    RefusedSchemaError,
    Walk,
    walked,
)

MAX_SCHEMA = 512 * 1024
"""The largest schema, in characters of JSON."""

STYLE = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}

_WEAKER: tuple[frozenset[str], ...] = (
    frozenset({"oneOf"}),
    frozenset({"pattern", "format"}),
    frozenset({"minProperties", "maxProperties"}),
    frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
    frozenset({"minLength", "maxLength"}),
    frozenset({"patternProperties"}),
    frozenset({"allOf"}),
    frozenset({"anyOf"}),
    frozenset({"$ref"}),
    frozenset({"properties", "items", "prefixItems", "additionalProperties", "enum", "const"}),
)
"""What is given up, one after the other, until llguidance takes what is left."""


@dataclass(frozen=True)
class Fitted:
    """A schema, and as much of it as a grammar holds.

    ``checked`` and ``ignored`` name keywords by their place: ``/properties/tags: uniqueItems``.
    """

    schema: JsonObject | bool
    grammar: JsonObject
    checked: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the grammar holds everything."""
        return not self.checked

    def to_json(self) -> JsonObject:
        """What was not constrained, for the trace; empty when there is nothing."""
        told = {"checked": list(self.checked), "ignored": list(self.ignored)}
        return {key: names for key, names in told.items() if names}


def fit(schema: JsonObject | bool) -> Fitted:
    """Fit a schema to a grammar; raises ``RefusedSchemaError`` for one that cannot be used."""
    return _fit(_text(schema))


def _text(schema: JsonObject | bool) -> str:
    # Not sorted: a model writes the properties in the order of the schema.
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
        text.encode()
    except RecursionError:
        raise RefusedSchemaError("it is nested too deep") from None
    except (TypeError, ValueError) as error:
        raise RefusedSchemaError(f"it is not JSON: {error}") from None
    if len(text) > MAX_SCHEMA:
        raise RefusedSchemaError(f"it has more than {MAX_SCHEMA:,} characters")
    return text


@lru_cache(maxsize=256)
def _fit(text: str) -> Fitted:
    schema = json.loads(text)
    why = ""
    for doubt in _doubts():
        walk = walked(schema, doubt)
        failed = _failure(walk.grammar, one_of_as_any=doubt.one_of)
        if failed is None:
            return _fitted(schema, walk, doubt)
        if failed.startswith("Unsatisfiable"):
            raise RefusedSchemaError(f"nothing fits it: {failed}")
        why = why or failed
    raise RefusedSchemaError(why)


def _doubts() -> Iterator[Doubt]:
    """What not to try, less and less of it being tried."""
    given_up: frozenset[str] = frozenset()
    yield Doubt()
    for names in _WEAKER:
        given_up |= names - {"oneOf"}
        yield Doubt(given_up, one_of=True)


def _fitted(schema: JsonObject | bool, walk: Walk, doubt: Doubt) -> Fitted:
    style = {**STYLE, "coerce_one_of": doubt.one_of}
    return Fitted(
        schema, {**walk.grammar, "x-guidance": style}, tuple(walk.checked), tuple(walk.ignored)
    )


def _failure(schema: JsonObject, *, one_of_as_any: bool) -> str | None:
    style = {**STYLE, "coerce_one_of": one_of_as_any}
    try:
        grammar = LLMatcher.grammar_from_json_schema({**schema, "x-guidance": style})
    except ValueError as error:  # a number that only Python can write
        return str(error)[:100]
    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    return reason(messages[0]) if failed else None


def reason(message: str) -> str:
    """llguidance's own words, without the position and the quoted source."""
    text = message.split("failed to compile JSON schema:", 1)[-1]
    text = text.split("\n   1 |", 1)[0]
    text = re.sub(r"<state>.*", "", text, flags=re.DOTALL)
    return " ".join(text.split()).strip(" .")[:300] or "no reason given"
