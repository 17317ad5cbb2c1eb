"""Schemas of all kinds: what a model without any sense writes under them is valid, or reported."""

from __future__ import annotations

import inspect
import json
import random
from typing import Any

import jsonschema
import mcp.types
import numpy as np
import openai.types.chat
import openai.types.responses
import pydantic
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from llama_cpp.llama_grammar import json_schema_to_gbnf

from corral.errors import ModelError
from corral.runtime.models.contract import JsonOutput
from corral.runtime.models.local.constraints.checks import NotJsonError, parsed, violations
from corral.runtime.models.local.constraints.grammar import Allowed, Constraint, Constraints
from corral.runtime.models.local.constraints.masks import Mask
from corral.runtime.models.local.constraints.schemas import fit
from corral.runtime.models.local.constraints.walking import RefusedSchemaError
from corral.runtime.models.local.native.weights import Weights
from tests.models.local.scripted_scores import weights

__all__ = ["weights"]  # the fixture

NODE = {
    "type": "object",
    "properties": {"v": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}},
    "required": ["v"],
}
STRING: dict[str, Any] = {"type": "string"}

HELD: dict[str, Any] = {
    "anything": {},
    "true": True,
    "no object": {"type": "integer"},
    "types": {"type": ["null", "boolean", "string"]},
    "const": {"const": {"a": [1, None, "ü"]}},
    "1000 values": {"enum": [f"value {at}" for at in range(1000)]},
    "recursion": {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    "recursion at the root": {"type": "object", "properties": {"a": {"$ref": "#"}}},
    "union": {"anyOf": [{"type": "integer"}, {"type": "array", "items": STRING, "maxItems": 2}]},
    "one of, told apart": {"oneOf": [{"type": "integer"}, STRING]},
    "all of": {"allOf": [{"properties": {"a": STRING}}, {"required": ["a"]}], "type": "object"},
    "tuple": {"type": "array", "prefixItems": [STRING, {"type": "null"}], "items": False},
    "tuple, old": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "items": [STRING, {"type": "null"}],
        "additionalItems": False,
        "type": "array",
    },
    "reference with brothers, old": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$ref": "#/definitions/a",
        "type": "integer",
        "definitions": {"a": STRING},
    },
    "strict bound, old": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": "integer",
        "minimum": 3,
        "exclusiveMinimum": True,
        "maximum": 5,
    },
    "bounds": {"type": "number", "minimum": -1, "exclusiveMaximum": 1},
    "steps": {"type": "integer", "multipleOf": 25, "minimum": 0, "maximum": 1000},
    "length": {"type": "string", "minLength": 3, "maxLength": 5},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"},
    "pattern that backtracks": {"type": "string", "pattern": "^(a+)+b$"},
    "letters": {"type": "string", "pattern": "^[à-ü]{1,4}$"},
    "uuid": {"type": "string", "format": "uuid"},
    "date": {"type": "string", "format": "date"},
    "names by pattern": {
        "type": "object",
        "patternProperties": {"^x_[a-z]+$": {"type": "integer"}},
        "additionalProperties": False,
    },
    "map": {"type": "object", "additionalProperties": {"type": "boolean"}},
    "false property": {"type": "object", "properties": {"a": False, "b": {"type": "null"}}},
    "strange names": {
        "type": "object",
        "properties": {'a"b\\': {"type": "null"}, "größe": STRING, "$ref": {"type": "integer"}},
        "required": ['a"b\\', "größe", "$ref"],
    },
    "undeclared but required": {"type": "object", "properties": {"a": STRING}, "required": ["b"]},
    "many items allowed": {"type": "array", "items": {"type": "null"}, "maxItems": 10**9},
    "annotations": {"type": "integer", "title": "A", "default": "b", "x-more": [1], "nullable": 1},
}

CHECKED: dict[str, tuple[dict[str, Any], str]] = {
    "unique": ({"type": "array", "uniqueItems": True}, "/: uniqueItems"),
    "not": ({"not": STRING}, "/: not"),
    "condition": ({"if": STRING, "then": {"minLength": 2}}, "/: if"),
    "contains": ({"type": "array", "contains": {"type": "null"}}, "/: contains"),
    "one of, alike": ({"oneOf": [{"type": "integer"}, {"minimum": 3}]}, "/: oneOf"),
    "look-ahead": ({"type": "string", "pattern": "^(?=.*x)"}, "/: pattern"),
    "names": ({"type": "object", "propertyNames": {"maxLength": 3}}, "/: propertyNames"),
    "needs": (
        {"properties": {"a": {"dependentRequired": {"b": ["c"]}}}},
        "/properties/a: dependentRequired",
    ),
    "long": ({"type": "string", "maxLength": 10**6}, "/: maxLength"),
    "big step": ({"type": "integer", "multipleOf": 123456789}, "/: multipleOf"),
    "counted": ({"properties": {"a": {}}, "minProperties": 1}, "/: minProperties"),
    "far bound": ({"type": "number", "maximum": 1e300}, "/: maximum"),
    "format": ({"type": "string", "format": "regex"}, "/: format regex"),
}

REFUSED: dict[str, tuple[Any, str]] = {
    "false": (False, "false"),
    "no values": ({"properties": {"a": {"enum": []}}}, "/properties/a/enum"),
    "nothing between": ({"type": "integer", "minimum": 2, "maximum": 1}, "minimum"),
    "counts crossed": ({"type": "array", "minItems": 3, "maxItems": 2}, "minItems"),
    "remote": ({"$ref": "http://localhost/x.json"}, "localhost"),
    "nowhere": ({"items": {"$ref": "#/$defs/none"}}, "not there"),
    "no type": ({"type": "objekt"}, "objekt"),
    "no schema": ({"properties": {"a": 3}}, "/properties/a"),
    "no pattern": ({"type": "string", "pattern": "(["}, "(["),
    "no list": ({"required": "a"}, "required"),
    "no step": ({"type": "integer", "multipleOf": 0}, "multipleOf"),
    "no object": ([1], "schema"),
}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def senseless(weights: Weights, constraint: Constraint, seed: int) -> str | None:
    """What a model writes that likes all tokens equally; ``None``: it found no end."""
    choose, mask, matcher = random.Random(seed), Mask(weights.n_vocab), constraint.start()
    ends, tokens = set(weights.end_tokens), list[int]()
    while not matcher.is_stopped() and len(tokens) < 60:
        step = matcher.compute_ff_tokens() or [
            int(choose.choice(np.flatnonzero(mask.allowed(matcher))))
        ]
        assert matcher.consume_tokens(step), matcher.get_error()
        if step[0] in ends:
            break
        tokens += step
    if not matcher.is_stopped():
        closed = constraint.closing.shortest(matcher, 400)
        if closed is None:
            return None
        tokens += closed
    return b"".join(map(weights.piece, tokens)).decode()


def check(weights: Weights, schema: Any, seeds: int = 3) -> None:
    constraint = Constraint(Allowed(output=JsonOutput(schema)), weights)
    for seed in range(seeds):
        text = senseless(weights, constraint, seed)
        if text is None:
            continue
        try:
            value = parsed(text)
        except NotJsonError:
            continue  # two values of one name, a number beyond all bounds: asked again
        if constraint.complete:
            assert violations(schema, value) == [], text
            jsonschema.validate(value, schema)


@pytest.mark.parametrize("name", HELD)
def test_what_a_grammar_holds_cannot_be_broken(weights: Weights, name: str) -> None:
    assert fit(HELD[name]).checked == ()
    check(weights, HELD[name], seeds=6)


@pytest.mark.parametrize("name", CHECKED)
def test_what_it_does_not_hold_is_named(weights: Weights, name: str) -> None:
    schema, place = CHECKED[name]
    assert place in fit(schema).checked
    check(weights, schema)


@pytest.mark.parametrize("name", sorted(CHECKED.keys() - {"long"}))
def test_llama_cpps_own_grammars_hold_no_more(name: str) -> None:
    schema, place = CHECKED[name]
    keyword = place.split(": ")[1].split(" ")[0]
    try:
        grammar = json_schema_to_gbnf(json.dumps(schema))
    except AssertionError:
        return  # it does not take such a schema at all
    assert grammar == json_schema_to_gbnf(json.dumps(_without(schema, keyword)))


def _without(value: Any, keyword: str) -> Any:
    if isinstance(value, dict):
        return {key: _without(one, keyword) for key, one in value.items() if key != keyword}
    return value


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_with_its_place(weights: Weights, name: str) -> None:
    schema, words = REFUSED[name]
    with pytest.raises(RefusedSchemaError) as error:
        fit(schema)
    assert words in str(error.value)
    with pytest.raises(ModelError, match="cannot be used"):
        Constraint(Allowed(output=JsonOutput(schema)), weights)


def test_depth_is_bounded(weights: Weights) -> None:
    check(weights, deep(40), seeds=1)
    for levels in (100, 3000):
        with pytest.raises(RefusedSchemaError, match="deep"):
            fit(deep(levels))


def test_an_unknown_format_is_an_annotation_and_named() -> None:
    fitted = fit({"properties": {"a": {"type": "string", "format": "colour"}}})
    assert fitted.complete
    assert fitted.to_json() == {"ignored": ["/properties/a: format colour"]}


def _models() -> list[type[pydantic.BaseModel]]:
    modules = (mcp.types, openai.types.chat, openai.types.responses)
    found = {
        member.__name__: member
        for module in modules
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, pydantic.BaseModel)
    }
    return list(found.values())


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_the_schemas_of_other_peoples_models(weights: Weights, part: int) -> None:
    models = _models()
    assert len(models) > 150
    for model in models[part::4]:
        check(weights, model.model_json_schema(), seeds=1)


leaves = st.sampled_from(
    [STRING, {"type": "integer"}, {"type": "null"}, {"enum": [1, "a", None]}, {}, {"maxLength": 2}]
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(
            lambda i, n: {"type": "array", "items": i, "maxItems": n}, inner, st.integers(0, 3)
        ),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
        st.builds(lambda a, b: {"oneOf": [a, b]}, inner, inner),
        st.builds(lambda a, b: {"allOf": [a, b]}, inner, inner),
        st.builds(
            lambda a, b: {"type": "object", "properties": {"a": a, "b": b}, "required": ["b"]},
            inner,
            inner,
        ),
        st.builds(lambda a: {"not": a}, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(schema=schemas)
def test_any_schema_is_held_checked_or_refused(weights: Weights, schema: dict[str, Any]) -> None:
    try:
        fit(schema)
    except RefusedSchemaError as refused:
        event(str(refused)[:40])
        return
    check(weights, schema, seeds=2)


def test_a_constraint_is_compiled_once_and_the_oldest_goes(weights: Weights) -> None:
    kept = Constraints(weights, size=2)
    first, second, third = (Allowed(output=JsonOutput({"const": at})) for at in range(3))
    made = kept.get(first)
    assert kept.get(first) is made
    kept.get(second)
    kept.get(first)
    kept.get(third)
    assert kept.get(first) is made


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1, "a": 2}', "two values"),
        ("1e999", "JSON"),
        ("NaN", "NaN"),
        ('"\\ud800"', "surrogate"),
        ("[" * 100_000, "deep"),
        ("{", "Expecting"),
    ],
)
def test_only_what_everybody_reads_alike_is_json(text: str, why: str) -> None:
    with pytest.raises(NotJsonError, match=why):
        parsed(text)


def test_checks_end() -> None:
    hostile = {"type": "string", "pattern": "^(?=x)(x+x+)+y$"}
    assert violations(hostile, "x" * 40)
    schema = {
        "$defs": {f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(30)}
    }
    schema["$defs"]["d30"] = STRING
    assert violations({**schema, "$ref": "#/$defs/d0"}, "a")
