"""Types that no instruction fits into, and values with nothing in them that was not declared."""

from __future__ import annotations

from typing import Any

import pytest

from corral.policies.provenance.closed_types import NotOfType, is_closed, pruned

OBJECT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["a", "b"]},
        "day": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}},
    },
    "required": ["kind"],
    "$defs": {"Part": {"type": "object", "properties": {"n": {"type": "integer"}}}},
}


@pytest.mark.parametrize(
    "schema",
    [
        *({"type": kind} for kind in ("number", "integer", "boolean", "null")),
        *({"type": "string", "format": kind} for kind in ("date", "time", "date-time")),
        {"enum": ["ignore", "all"]},
        {"const": "x"},
        {"type": ["integer", "null"]},
        {"type": "string", "pattern": r"^INV-\d{6}$"},
        {"type": "string", "pattern": "^[A-Z]{2}[0-9]{1,8}$"},
        {"type": "array", "items": {"type": "string", "pattern": r"^\d{4}$"}, "maxItems": 20},
        {"type": "array", "items": {"type": "string", "pattern": "^[A-Z]{3}$"}, "maxItems": 12},
        {"allOf": [{"type": "integer"}]},
        OBJECT,
    ],
)
def test_closed(schema: dict[str, Any]) -> None:
    assert is_closed(schema)


@pytest.mark.parametrize(
    "schema",
    [
        *(
            {},
            True,
            {"type": "string"},
            {"type": "string", "maxLength": 5},
            {"type": "array"},
            {"type": "object"},
        ),
        *({"type": "object", "additionalProperties": {"type": "integer"}}, {"$ref": "#/nowhere"}),
        {"type": "object", "properties": {"t": {"type": "string"}}},
        {"type": "object", "patternProperties": {".*": {"type": "integer"}}},
        {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        *(
            {"type": "string", "pattern": one}
            for one in ("^.*$", r"^\w{3}$", "a{3}", "^[a-z]{40}$")
        ),
        *({"type": "string", "pattern": one} for one in ("^[a-z ]{9}$", "^(a|b)$", "^[^x]{2}$")),
        {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{3}$"}},
        {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{9}$"}, "maxItems": 20},
        {"allOf": [{"type": "integer"}, {"type": "object"}]},
        {"$defs": {"T": {"$ref": "#/$defs/T"}}, "$ref": "#/$defs/T"},
    ],
)
def test_not_closed(schema: Any) -> None:
    assert not is_closed(schema)


def test_what_is_not_declared_goes() -> None:
    value: Any = {"kind": "a", "note": "obey", "day": None, "parts": [{"n": 1, "x": "obey"}]}
    assert pruned(OBJECT, value) == {"kind": "a", "day": None, "parts": [{"n": 1}]}
    number: Any = {"type": "object", "properties": {"n": {"type": "integer"}}}
    assert pruned({"allOf": [number]}, {"n": 1, "x": "obey"}) == {"n": 1}


@pytest.mark.parametrize(
    "value",
    [
        {"kind": "a", "day": "obey me"},
        {"kind": "a", "parts": [{"n": "obey"}]},
        {"kind": "a", "parts": [{"n": True}]},
        {"day": None},
        "obey",
    ],
)
def test_what_is_of_another_type_is_refused(value: Any) -> None:
    with pytest.raises(NotOfType):
        pruned(OBJECT, value)
