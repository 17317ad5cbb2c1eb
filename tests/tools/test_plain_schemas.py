"""Arguments that plainly fit are told from others without the validator, and never wrongly."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jsonschema.validators import Draft202012Validator

from corral.tools.contract import ToolSpec
from corral.tools.schemas import validate_args

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), st.text(max_size=3)
) | st.lists(st.integers(), max_size=2)
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])
PROPERTIES = st.fixed_dictionaries(
    {"type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True)},
    optional={
        "description": st.text(max_size=3),
        "default": VALUES,
        "minimum": st.integers(-2, 2),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
    },
)
SCHEMAS = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(NAMES, PROPERTIES | st.booleans())},
    optional={
        "required": st.lists(NAMES, unique=True),
        "additionalProperties": st.booleans() | PROPERTIES,
        "minProperties": st.integers(0, 2),
        "title": st.text(max_size=3),
    },
)


@given(schema=SCHEMAS, args=st.dictionaries(NAMES, VALUES))
def test_the_verdict_is_the_validators(schema: dict[str, Any], args: dict[str, Any]) -> None:
    spec = ToolSpec("s", "t", "", schema)
    fits = Draft202012Validator(schema).is_valid(args)
    assert (validate_args(spec, args) is None) == fits


@given(number=st.integers(), word=st.text())
def test_a_plain_call_fits(number: int, word: str) -> None:
    properties = {"number": {"type": "integer"}, "word": {"type": "string", "description": "w"}}
    schema = {"type": "object", "properties": properties, "required": ["number"]}
    spec = ToolSpec("s", "t", "", schema)
    assert validate_args(spec, {"number": number, "word": word}) is None
    assert "word" in (validate_args(spec, {"number": number, "word": number}) or "")
    assert "number" in (validate_args(spec, {"word": word}) or "")
