"""Which schemas are strict, and that nothing valid is lost by it."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.runtime.models.hosted.schemas import (
    ANTHROPIC,
    OPENAI,
    object_schema,
    strict_schema,
    strict_schemas,
)

TEXT = {"type": "string"}


def obj(properties: dict[str, Any], required: list[str] | None = None, **more: Any) -> Any:
    given = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": given, **more}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        TEXT,
        obj({"a": {}}),
        obj({"a": {"type": "object"}}),
        obj({"a": {"type": "object", "additionalProperties": TEXT}}),
        obj({"a": TEXT}, additionalProperties=True),
        obj({"a": TEXT}, patternProperties={"^x": TEXT}),
        obj({"a": {"oneOf": [TEXT, {"type": "null"}]}}),
        obj({"a": {"type": "array"}}),
        obj({"a": {**TEXT, "format": "made-up"}}),
        obj({"a": {**TEXT, "minLength": 3}}),
        obj({"a": TEXT}, required=["b"]),
        obj({f"p{n}": TEXT for n in range(1001)}),
        obj({"a": {"enum": [str(n) for n in range(501)]}}),
    ],
)
def test_what_strict_schemas_cannot_say_is_not_strict(schema: Any) -> None:
    assert strict_schema(schema, OPENAI) is None
    assert strict_schema(schema, ANTHROPIC) is None


def test_a_deep_schema_is_not_followed_to_its_end() -> None:
    schema: Any = TEXT
    for _ in range(2000):
        schema = obj({"a": schema})
    assert strict_schema(schema, OPENAI) is None


def test_what_only_one_of_them_takes() -> None:
    optional = obj({"a": TEXT, "b": TEXT}, required=["a"])
    bounded = obj({"a": {"type": "integer", "minimum": 1}})
    tree = obj({"a": {"$ref": "#/$defs/t"}})
    tree["$defs"] = {"t": obj({"kids": {"type": "array", "items": {"$ref": "#/$defs/t"}}})}
    assert strict_schema(optional, OPENAI) is None
    assert strict_schema(optional, ANTHROPIC) is not None
    for only_openai in (bounded, tree):
        assert strict_schema(only_openai, OPENAI) is not None
        assert strict_schema(only_openai, ANTHROPIC) is None


def test_what_a_request_may_have_is_counted_over_its_schemas() -> None:
    ten = obj({f"p{n}": TEXT for n in range(10)}, required=[])
    closed = obj({"a": TEXT})
    made = strict_schemas([ten, ten, ten, closed], ANTHROPIC)
    assert [schema is not None for schema in made] == [True, True, False, True]


def test_a_definition_that_is_used_twice_is_no_recursion() -> None:
    schema = obj({"a": {"$ref": "#/$defs/t"}, "b": {"$ref": "#/$defs/t"}})
    schema["$defs"] = {"t": obj({"x": {"$ref": "#/$defs/u"}}), "u": TEXT}
    closed = strict_schema(schema, ANTHROPIC)
    assert closed is not None
    assert closed["$defs"]["t"]["additionalProperties"] is False


def test_annotations_are_left_out_and_the_rest_stays() -> None:
    schema = obj({"a": {**TEXT, "default": "x", "description": "A."}}) | {"$schema": "s"}
    assert strict_schema(schema, OPENAI) == {
        "type": "object",
        "properties": {"a": {"type": "string", "description": "A."}},
        "required": ["a"],
        "additionalProperties": False,
    }


LEAVES = st.sampled_from(
    [TEXT, {"type": "integer"}, {"type": ["string", "null"]}, {"enum": ["x", 1]}]
)
NAMES = st.sampled_from(["a", "b", "c", "d"])


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def required(properties: dict[str, Any]) -> st.SearchStrategy[Any]:
        names = st.lists(st.sampled_from(sorted(properties)), unique=True)
        return names.map(lambda chosen: obj(properties, required=chosen))

    return st.dictionaries(NAMES, inner, min_size=1, max_size=3).flatmap(required)


def _more(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = inner.map(lambda schema: {"type": "array", "items": schema})
    either = st.lists(inner, min_size=1, max_size=3).map(lambda schemas: {"anyOf": schemas})
    return lists | either | _objects(inner)


SCHEMAS = _objects(st.recursive(LEAVES, _more, max_leaves=6))


def _values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit a schema and have only members that it names."""
    if "anyOf" in schema:
        return st.one_of([_values(one) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "object":
            needed = {n: _values(schema["properties"][n]) for n in schema["required"]}
            rest = {n: _values(s) for n, s in schema["properties"].items() if n not in needed}
            return st.fixed_dictionaries(needed, optional=rest)
        case "array":
            return st.lists(_values(schema["items"]), max_size=3)
        case "integer":
            return st.integers()
        case "string":
            return st.text(max_size=5)
    return st.none() | st.text(max_size=5)


@given(st.data(), SCHEMAS)
def test_a_strict_schema_means_what_it_meant(data: st.DataObject, schema: Any) -> None:
    value = data.draw(_values(schema))
    jsonschema.validate(value, schema)
    for rules in (OPENAI, ANTHROPIC):
        strict = strict_schema(schema, rules)
        if strict is not None:
            jsonschema.validate(value, strict)


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "type",
                        "properties",
                        "required",
                        "anyOf",
                        "items",
                        "$ref",
                        "enum",
                        "$defs",
                        "a",
                    ]
                ),
                x,
            )
        ),
        max_leaves=12,
    )
)
def test_no_schema_of_a_stranger_is_an_error(schema: Any) -> None:
    if isinstance(schema, dict):
        for rules in (OPENAI, ANTHROPIC):
            assert strict_schema(schema, rules) is None or schema["type"] == "object"
        assert object_schema(schema)["type"] == "object"
