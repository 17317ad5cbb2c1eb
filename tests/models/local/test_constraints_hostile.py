"""Schemas that somebody wrote to break something: refused before any work, or held."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from corral.errors import ModelError
from corral.runtime.models.contract import JsonOutput, ModelRequest, Sampling
from corral.runtime.models.local.constraints.checks import violations
from corral.runtime.models.local.constraints.grammar import Allowed, Constraints
from corral.runtime.models.local.constraints.schemas import fit
from corral.runtime.models.local.native.weights import Weights
from corral.tools.contract import ToolSpec
from tests.models.local.scripted_scores import spoken, weights

__all__ = ["weights"]  # the fixture


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"anyOf": [schema]}
    return schema


CIRCLE = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "itself": ({"$ref": "#"}, "nothing fits"),
    "circle": (CIRCLE, "nothing fits"),
    "half a letter": ({"const": "\ud800"}, "not JSON"),
    "too deep to be written": (nested(5_000), "too deep"),
    "a number beyond 64 bits": ({"type": "array", "minItems": 10**40}, "not JSON"),
    "not": ({"not": 5}, "/not is 5"),
    "dependentRequired": ({"dependentRequired": ["a"]}, "/dependentRequired is not an object"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_nobody_can_hold_is_refused_before_any_work(weights: Weights, name: str) -> None:
    schema, why = REFUSED[name]
    with pytest.raises(ModelError, match=why):
        Constraints(weights).get(Allowed(output=JsonOutput(schema)))


def test_a_list_of_items_is_an_old_tuple_without_being_told_so() -> None:
    schema = {"type": "array", "items": [{"type": "integer"}, {"type": "string"}]}
    assert violations(schema, [1, "a", None]) == []
    assert len(violations(schema, ["a", 1])) == 2


def test_whole_numbers_may_be_written_with_a_point() -> None:
    assert fit({"type": "string", "minLength": 2.0, "maxLength": 3.0}).complete


def test_a_control_token_in_a_tools_name_ends_in_words(weights: Weights) -> None:
    name = weights.token_text(weights.end_tokens[0])
    tool = ToolSpec("test", name, "Do it.", {"type": "object", "properties": {}})
    request = ModelRequest([HumanMessage("Do it.")], [tool], "required", Sampling(max_tokens=100))
    with pytest.raises(ModelError, match="attempts"):
        spoken(weights, request, "CALL x")


def test_an_output_without_a_question_is_an_answer(weights: Weights) -> None:
    request = ModelRequest([], output=JsonOutput({"type": "integer"}))
    _, final, _ = spoken(weights, request, "7")
    assert final.message.content == "7"
