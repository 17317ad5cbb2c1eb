"""Compiles what a model may write into one llguidance grammar, once for each set of tools."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llguidance import LLMatcher, LLParserLimits

from corral.errors import ModelError
from corral.jsontypes import JsonObject
from corral.runtime.models.contract import ChoiceOutput, JsonOutput, Output
from corral.runtime.models.local.constraints.closing import Closing
from corral.runtime.models.local.constraints.declared import only_declared
from corral.runtime.models.local.constraints.masks import Mask
from corral.runtime.models.local.constraints.parameters import ParameterGrammar
from corral.runtime.models.local.constraints.schemas import Fitted, fit, reason
from corral.runtime.models.local.constraints.syntax import ID, ID_LENGTH, ID_LETTERS, CallSyntax
from corral.runtime.models.local.constraints.walking import RefusedSchemaError
from corral.runtime.models.local.native.weights import Weights
from corral.tools.contract import ToolSpec

MAX_CALLS = 16
"""The most calls of one answer."""

_EASY = 200


@dataclass(frozen=True)
class Allowed:
    """What a model may write: calls of ``tools`` in a ``syntax``, or the ``output``."""

    tools: Sequence[ToolSpec] = ()
    syntax: CallSyntax | None = None
    several: bool = True
    output: Output | None = None

    @property
    def key(self) -> str:
        """The same for what makes the same grammar. The order of properties matters."""
        tools = [[tool.name, tool.input_schema] for tool in self.tools]
        return json.dumps([repr(self.syntax), self.several, tools, _output_key(self.output)])


def _output_key(output: Output | None) -> Any:
    return output.schema if isinstance(output, JsonOutput) else repr(output)


class Constraint:
    """A compiled grammar.

    Raises ``ModelError`` naming the tool whose schema cannot be used, and where in it.
    """

    def __init__(self, allowed: Allowed, vocabulary: Weights) -> None:
        self._vocabulary = vocabulary
        self.allowed = allowed
        self.tools = {tool.name: _fitted_tool(tool) for tool in allowed.tools}
        self.output = _fitted_output(allowed.output)
        limits = LLParserLimits(initial_lexer_fuel=5_000_000, verbose_errors=False)
        grammar = LLMatcher.grammar_from_lark("\n".join(self._lark()))
        first = LLMatcher(vocabulary.tokenizer, grammar, log_level=0, limits=limits)
        if first.is_error():
            raise ModelError(
                f"{', '.join(self.tools) or 'The output'}: the grammar cannot be compiled: "
                f"{reason(first.get_error())}.",
                hint="Give the agent fewer tools, or simpler schemas.",
            )
        started = first.deep_copy()
        started.compute_ff_tokens()
        Mask(vocabulary.n_vocab).allowed(started)
        if started.is_error():
            raise ModelError(
                f"{', '.join(self.tools) or 'The output'}: nothing fits the schema.",
                hint="Correct it: it refers to itself without an end, or contradicts itself.",
            )
        self._first = first

    def start(self) -> LLMatcher:
        """A matcher at the beginning."""
        return self._first.deep_copy()

    @cached_property
    def first_call_token(self) -> int:
        """The token that begins every call."""
        prefix = self.allowed.syntax.prefix if self.allowed.syntax else ""
        return int(self._vocabulary.tokenizer.tokenize_str(prefix, parse_special=True)[0])

    @cached_property
    def closing(self) -> Closing:
        """The way to the end of what it allows. On the engine's thread only."""
        syntax = self.allowed.syntax
        ends = [syntax.parameters.end] if syntax is not None and syntax.parameters else []
        return Closing(self._vocabulary, ends)

    @cached_property
    def least_tokens(self) -> int | None:
        """How many tokens the shortest of what it allows has, where that is easy to tell."""
        tokens = self.closing.shortest(self._first, _EASY)
        return None if tokens is None else len(tokens)

    @property
    def markers(self) -> tuple[str, ...]:
        """The texts of the syntax in which control tokens may stand."""
        syntax = self.allowed.syntax
        if syntax is None:
            return ()
        parts = (syntax.prefix, syntax.middle, syntax.close, syntax.between or "", syntax.suffix)
        return tuple(filter(None, parts))

    @property
    def complete(self) -> bool:
        """Whether all that fits the grammar fits the schemas."""
        fitted = [*self.tools.values(), *([self.output] if self.output else [])]
        by_parameters = self.allowed.syntax is not None and self.allowed.syntax.parameters
        return all(one.complete for one in fitted) and not by_parameters

    def facts(self) -> JsonObject:
        """What of the schemas is not held by the grammar, by tool; ``output`` is the answer."""
        told = {name: fitted.to_json() for name, fitted in self.tools.items()}
        told |= {"output": self.output.to_json()} if self.output else {}
        return {name: facts for name, facts in told.items() if facts}

    def _lark(self) -> list[str]:
        alternatives = (["calls"] if self.tools else []) + (["output"] if self._output() else [])
        lines = [f"start: {' | '.join(alternatives)}", *self._output()]
        syntax = self.allowed.syntax
        if not self.tools or syntax is None:
            return lines
        literal = self._literal
        more = ""
        if syntax.between and self.allowed.several:
            more = f"({literal(syntax.between)} call){{0,{MAX_CALLS - 1}}}"
        calls = " | ".join(f"call_{at}" for at in range(len(self.tools)))
        lines += [
            f"calls: {literal(syntax.prefix)} call {more} {literal(syntax.suffix)}",
            f"call: {calls}",
        ]
        for at, (name, fitted) in enumerate(self.tools.items()):
            head = literal(name + syntax.middle)
            lines.append(f"call_{at}: {head} args_{at} {literal(syntax.close)}")
            if syntax.parameters is None:
                lines.append(f"args_{at}: %json {json.dumps(fitted.grammar)}")
            else:
                maker = ParameterGrammar(syntax.parameters, literal, f"args_{at}")
                lines += maker.lines(fitted)
        return lines

    def _output(self) -> list[str]:
        match self.allowed.output:
            case ChoiceOutput(choices):
                return [f"output: {' | '.join(map(_quoted, choices))}"]
            case JsonOutput() if self.output is not None:
                return [f"output: %json {json.dumps(self.output.grammar)}"]
            case _:
                return []

    def _literal(self, text: str) -> str:
        """A text in Lark, with the control tokens that it may contain as token numbers."""
        tokenizer = self._vocabulary.tokenizer
        parts: list[str] = []
        for token in tokenizer.tokenize_str(text, parse_special=True) if text else ():
            marker = self._vocabulary.token_text(token)
            if tokenizer.is_special_token(token) and marker in text:
                before, _, text = text.partition(marker)
                parts += [*_plain(before), f"<[{token}]>"]
        return " ".join([*parts, *_plain(text)])


def _plain(text: str) -> list[str]:
    """A text without control tokens in Lark; the place of a call's id is a pattern."""
    first, *rest = text.split(ID)
    parts = [_quoted(first)] if first else []
    for piece in rest:
        parts += [f"/{ID_LETTERS}{{{ID_LENGTH}}}/", *([_quoted(piece)] if piece else [])]
    return parts


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _fitted_tool(tool: ToolSpec) -> Fitted:
    schema = {"type": "object", **tool.input_schema}
    try:
        if schema["type"] != "object":
            raise RefusedSchemaError(f"its arguments are of type {schema['type']!r}, not an object")
        fitted = fit(only_declared(schema))
    except RefusedSchemaError as refused:
        raise ModelError(
            f"The input schema of the tool {tool.name} cannot be used: {refused}.",
            hint=f"Correct or simplify that part of {tool.name}'s schema, or leave the tool out.",
        ) from None
    return Fitted(schema, fitted.grammar, fitted.checked, fitted.ignored)


def _fitted_output(output: Output | None) -> Fitted | None:
    match output:
        case JsonOutput(schema):
            try:
                fitted = fit(only_declared(schema) if isinstance(schema, dict) else schema)
            except RefusedSchemaError as refused:
                raise ModelError(
                    f"The schema of the output {output.name} cannot be used: {refused}.",
                    hint="Correct or simplify that part of the schema.",
                ) from None
            return Fitted(schema, fitted.grammar, fitted.checked, fitted.ignored)
        case ChoiceOutput(choices) if not choices or "" in choices:
            raise ModelError(
                "The choices of the output are none, or one of them is empty.",
                hint="Give at least one choice, and text in each.",
            )
        case _:
            return None


class Constraints:
    """Keeps compiled constraints, the most recently used of them. Safe to use from any thread."""

    def __init__(self, vocabulary: Weights, size: int = 64) -> None:
        self._vocabulary = vocabulary
        self._size = size
        self._lock = threading.Lock()
        self._made: OrderedDict[str, Constraint] = OrderedDict()

    def get(self, allowed: Allowed) -> Constraint:
        """The constraint, compiled once."""
        try:
            key = allowed.key
        except (RecursionError, TypeError, ValueError) as error:
            raise ModelError(
                f"A schema of the request is not JSON, or is nested too deep: {error}.",
                hint="Correct or simplify it.",
            ) from None
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = Constraint(allowed, self._vocabulary)
        with self._lock:
            self._made[key] = made
            while len(self._made) > self._size:
                self._made.popitem(last=False)
        return made
