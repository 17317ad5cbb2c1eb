"""Turns the JSON Schemas of tools into one grammar for llguidance, and reads a call back.

https://github.com/guidance-ai/llguidance/blob/main/docs/json_schema.md lists what it covers. A
schema outside of that is refused by name: ignoring a keyword would let invalid calls through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jsonschema import Draft202012Validator
from llguidance import LLMatcher, LLTokenizer

from corral.errors import ModelError
from corral.jsontypes import JsonObject, canonical
from corral.tools.contract import ToolSpec

_STYLE = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
_CAPTURE = "args_"
_NAMING = {"properties", "patternProperties", "$defs", "definitions"}
_OPENING = {"additionalProperties", "unevaluatedProperties", "patternProperties"}
_COMBINING = {"$ref", "anyOf", "oneOf"}


@dataclass(frozen=True)
class CallSyntax:
    """How one model writes a call: ``prefix NAME middle ARGUMENTS suffix``.

    ``trigger`` is the beginning of ``prefix`` if no plain answer contains that, else empty: then
    only ``prefix`` with the name of a tool begins a call.
    """

    prefix: str
    middle: str
    suffix: str
    trigger: str

    def render(self, name: str, args: JsonObject) -> str:
        """A call as this model would write it."""
        arguments = json.dumps(args, ensure_ascii=False)
        return f"{self.prefix}{name}{self.middle}{arguments}{self.suffix}"


@dataclass(frozen=True)
class ParsedCall:
    """A call that the model wrote, valid against its tool's schema."""

    name: str
    args: JsonObject


class CallGrammar:
    """All that a model may write when it calls one of some tools.

    Raises ``ModelError`` naming the tool whose schema cannot be turned into a grammar.
    """

    def __init__(
        self, tools: Sequence[ToolSpec], syntax: CallSyntax, tokenizer: LLTokenizer
    ) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._names = list(self._tools)
        self._syntax = syntax
        self._tokenizer = tokenizer
        self.triggers = (
            (syntax.trigger,)
            if syntax.trigger
            else tuple(f"{syntax.prefix}{name}" for name in self._names)
        )
        schemas = {name: close(tool.input_schema) for name, tool in self._tools.items()}
        for name, schema in schemas.items():
            _check(name, schema)
        self._grammar = LLMatcher.grammar_from_lark(self._lark(schemas))
        first = LLMatcher(tokenizer, self._grammar, log_level=0)
        if first.is_error():
            raise ModelError(
                f"The tools {', '.join(self._tools)} make a grammar that is too large: "
                f"{_reason(first.get_error())}.",
                hint="Give the agent fewer tools, or simpler schemas.",
            )
        self._first = first

    @cached_property
    def first_token(self) -> int:
        """The token that begins every call."""
        return int(self._tokenizer.tokenize_str(self._syntax.prefix, parse_special=True)[0])

    @cached_property
    def trigger_token(self) -> int | None:
        """The control token that begins a call, if it is one."""
        tokens = self._tokenizer.tokenize_str(self._syntax.trigger, parse_special=True)
        special = len(tokens) == 1 and self._tokenizer.is_special_token(tokens[0])
        return int(tokens[0]) if special else None

    def start(self) -> LLMatcher:
        """A matcher at the beginning of a call."""
        return self._first.deep_copy()

    def parse(self, matcher: LLMatcher) -> ParsedCall:
        """Read the call of a matcher that is at its end.

        Raises ``ModelError`` when it does not fit its schema.
        """
        capture, data = matcher.get_captures()[-1]
        name = self._names[int(capture.removeprefix(_CAPTURE))]
        args = json.loads(data)
        schema = self._tools[name].input_schema
        error = next(iter(Draft202012Validator(schema).iter_errors(args)), None)
        if error is not None:
            raise ModelError(
                f"The model's call of {name} does not fit the tool's schema: {error.message}.",
                hint="Try again, with a larger model if it happens often.",
            )
        return ParsedCall(name=name, args=args)

    def _lark(self, schemas: dict[str, JsonObject]) -> str:
        calls = " | ".join(f"call_{i}" for i in range(len(self._names)))
        head, tail = self._literal(self._syntax.prefix), self._literal(self._syntax.suffix)
        lines = [f"start: {head} ({calls}) {tail}"]
        for i, name in enumerate(self._names):
            schema = json.dumps({**schemas[name], "x-guidance": _STYLE}, ensure_ascii=False)
            lines += [
                f"call_{i}: {self._literal(name + self._syntax.middle)} {_CAPTURE}{i}",
                f"{_CAPTURE}{i}[capture]: %json {schema}",
            ]
        return "\n".join(lines)

    def _literal(self, text: str) -> str:
        """A text in Lark, with the control tokens that it may contain as token numbers."""
        parts: list[str] = []
        plain: list[int] = []
        for token in [*self._tokenizer.tokenize_str(text, parse_special=True), -1]:
            if token >= 0 and not self._tokenizer.is_special_token(token):
                plain.append(token)
                continue
            if plain:
                parts.append(json.dumps(self._tokenizer.decode_str(plain), ensure_ascii=False))
                plain = []
            if token >= 0:
                parts.append(f"<[{token}]>")
        return " ".join(parts)


class GrammarCache:
    """Keeps compiled grammars by their tools, syntax included: compiling takes milliseconds."""

    def __init__(self, tokenizer: Callable[[], LLTokenizer], size: int = 16) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._grammars: dict[str, CallGrammar] = {}

    def get(self, tools: Sequence[ToolSpec], syntax: CallSyntax) -> CallGrammar:
        """The grammar of these tools, compiled at most once."""
        key = canonical([repr(syntax), [[tool.name, tool.input_schema] for tool in tools]])
        if key not in self._grammars:
            while len(self._grammars) >= self._size:
                del self._grammars[next(iter(self._grammars))]
            self._grammars[key] = CallGrammar(tools, syntax, self._tokenizer())
        return self._grammars[key]


def close(schema: JsonObject) -> JsonObject:
    """The schema with no properties but the declared ones, where it does not say.

    A model that may invent arguments does. What fits the result fits the original. A schema that
    combines others is left alone: closing its parts could make them exclude each other.
    """
    return schema if _combines(schema) else _closed(schema)


def _combines(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_combines, value))
    if not isinstance(value, dict):
        return False
    if "allOf" in value or ("properties" in value and _COMBINING & value.keys()):
        return True
    return any(map(_combines, value.values()))


def _closed(schema: JsonObject) -> JsonObject:
    result = {key: _closed_part(value, names=key in _NAMING) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not _OPENING & schema.keys():
        result["additionalProperties"] = False
    return result


def _closed_part(value: Any, *, names: bool) -> Any:
    """A keyword's value; with ``names`` an object from names of the schema's own to schemas."""
    if isinstance(value, list):
        return [_closed_part(item, names=False) for item in value]
    if not isinstance(value, dict):
        return value
    if names:
        return {key: _closed_part(item, names=False) for key, item in value.items()}
    return _closed(value)


def _check(name: str, schema: JsonObject) -> None:
    if schema.get("type", "object") != "object":
        raise _refused(name, f"its arguments are of type {schema['type']!r}, not an object")
    grammar = LLMatcher.grammar_from_json_schema({**schema, "x-guidance": _STYLE})
    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar)
    if failed:
        raise _refused(name, _reason(messages[0]))


def _refused(name: str, why: str) -> ModelError:
    return ModelError(
        f"The input schema of the tool {name} cannot be turned into a grammar: {why}.",
        hint=f"Remove or simplify that part of {name}'s schema, leave the tool out, "
        "or use a hosted model, which takes any schema.",
    )


def _reason(message: str) -> str:
    """llguidance's own words, without the position and the quoted source."""
    text = message.split("failed to compile JSON schema:", 1)[-1]
    text = text.split("\n   1 |", 1)[0]
    text = re.sub(r"<state>.*", "", text, flags=re.DOTALL)
    return " ".join(text.split()).strip(" .") or "no reason given"
