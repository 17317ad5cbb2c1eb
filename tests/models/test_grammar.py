"""Every call that the model makes fits its tool's schema; what cannot be promised is refused."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from corral.errors import ModelError
from corral.runtime.models.contract import Sampling
from corral.runtime.models.local.constraints.declared import only_declared
from corral.runtime.models.local.model import LocalModel
from tests.models.conftest import answer, ask, tool

INTEGER = {"type": "integer", "minimum": 1, "maximum": 5}
SCHEMAS: dict[str, dict[str, Any]] = {
    "enum": {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green", "blue"]}},
        "required": ["colour"],
    },
    "nested": {
        "type": "object",
        "properties": {
            "who": {
                "type": "object",
                "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 130}},
                "required": ["age"],
            },
            "ok": {"type": "boolean"},
        },
        "required": ["who", "ok"],
        "additionalProperties": False,
    },
    "array": {
        "type": "object",
        "properties": {"n": {"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 3}},
        "required": ["n"],
    },
    "bounds": {
        "type": "object",
        "properties": {
            "x": {"type": "number", "minimum": -1, "exclusiveMaximum": 1},
            "n": {"type": "integer", "multipleOf": 5, "minimum": 10, "maximum": 20},
        },
        "required": ["x", "n"],
    },
    "unicode": {
        "type": "object",
        "properties": {
            "größe": {"enum": ["klein", "groß"]},
            "名前": {"type": "string", "maxLength": 6},
        },
        "required": ["größe", "名前"],
    },
    "pattern": {
        "type": "object",
        "properties": {
            "code": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["code", "day"],
    },
    "reference": {
        "type": "object",
        "properties": {"p": {"$ref": "#/$defs/point"}},
        "required": ["p"],
        "$defs": {
            "point": {
                "type": "object",
                "properties": {"x": INTEGER, "y": {"anyOf": [INTEGER, {"type": "null"}]}},
                "required": ["x", "y"],
            }
        },
    },
    "nothing": {"type": "object", "properties": {}},
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "remote": ({"properties": {"a": {"$ref": "http://localhost/a.json"}}}, "localhost"),
    "nowhere": ({"properties": {"a": {"$ref": "#/$defs/a"}}}, "not there"),
    "impossible": (
        {"properties": {"a": {"type": "integer", "minimum": 2, "maximum": 1}}, "required": ["a"]},
        "'a'",
    ),
    "no type": ({"properties": {"a": {"type": "colour"}}}, "colour"),
    "no pattern": ({"properties": {"a": {"type": "string", "pattern": "(["}}}, "pattern"),
    "not an object": ({"type": "array"}, "'array'"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEMAS)
async def test_a_required_call_fits_its_schema(local_model: LocalModel, name: str) -> None:
    schema = SCHEMAS[name]
    # The higher the temperature, the less of the call's form can come from the model.
    for seed, temperature in enumerate((0.0, 2.0)):
        sampling = Sampling(max_tokens=160, temperature=temperature, seed=seed)
        request = ask("Go.", tools=[tool(schema)], tool_choice="required", sampling=sampling)
        got = await answer(local_model, request)
        assert got.final.stop_reason == "tool_calls"
        assert got.pieces == []
        jsonschema.validate(got.call, schema)


async def test_only_declared_arguments_are_made(local_model: LocalModel) -> None:
    schema = {"type": "object", "properties": {"flag": {"type": "boolean"}}, "required": ["flag"]}
    request = ask("Go.", tools=[tool(schema)], tool_choice="required")
    assert (await answer(local_model, request)).call.keys() == {"flag"}


async def test_one_of_several_tools_is_called(local_model: LocalModel) -> None:
    tools = [tool(SCHEMAS["enum"], "paint"), tool(SCHEMAS["nothing"], "stop")]
    request = ask("Paint it red.", tools=tools, tool_choice="required")
    (call,) = (await answer(local_model, request)).final.message.tool_calls
    assert call["name"] in {"test__paint", "test__stop"}
    assert call["id"]


@pytest.mark.parametrize("name", REFUSED)
async def test_a_schema_that_cannot_be_used_is_refused_by_name(
    local_model: LocalModel, name: str
) -> None:
    schema, word = REFUSED[name]
    tools = [tool(SCHEMAS["enum"], "fine"), tool({"type": "object", **schema}, "strange")]
    with pytest.raises(ModelError, match="test__strange") as error:
        await answer(local_model, ask("Go.", tools=tools))
    assert word in error.value.message
    assert "test__strange" in error.value.hint


async def test_a_call_that_does_not_end_is_an_error_and_no_call(local_model: LocalModel) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "array", "items": INTEGER, "minItems": 200}},
        "required": ["n"],
    }
    request = ask("Go.", tools=[tool(schema)], tool_choice="required", max_tokens=40)
    with pytest.raises(ModelError, match="40") as error:
        await answer(local_model, request)
    assert "max_tokens" in error.value.hint


async def test_a_required_call_needs_a_tool(local_model: LocalModel) -> None:
    with pytest.raises(ModelError, match="no tools"):
        await answer(local_model, ask("Go.", tool_choice="required"))


def test_closing_a_schema_leaves_what_it_says_alone() -> None:
    open_on_purpose = {
        "type": "object",
        "properties": {"properties": {"type": "object", "properties": {"a": {}}}},
        "additionalProperties": True,
    }
    closed = only_declared(open_on_purpose)
    assert closed["additionalProperties"] is True
    assert closed["properties"]["properties"]["additionalProperties"] is False
    combined = {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}, "required": ["b"]}]}
    assert only_declared(combined) == combined
