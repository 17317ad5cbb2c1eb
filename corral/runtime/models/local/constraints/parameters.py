"""Grammars for arguments that a model writes one by one, each in markup of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from corral.jsontypes import JsonObject
from corral.runtime.models.local.constraints.schemas import STYLE, Fitted
from corral.runtime.models.local.constraints.syntax import ParameterSyntax

_EMPTY = '""'
_DEFINITIONS = ("$defs", "definitions")


class ParameterGrammar:
    """Lark rules for the arguments of one tool; ``name`` is the first rule's and begins others'.

    The parameters come in the order of the schema. Of what cannot be written in this way (more
    than the declared properties, conditions of the whole) nothing is promised: it is checked.
    """

    def __init__(self, syntax: ParameterSyntax, literal: Callable[[str], str], name: str) -> None:
        self._syntax = syntax
        self._literal = literal
        self._name = name

    def lines(self, fitted: Fitted) -> list[str]:
        """The rules; ``NAME_a_I`` has written nothing before parameter I, ``NAME_b_I`` has."""
        schema = fitted.grammar
        properties = schema.get("properties", {})
        parameters = [(key, part) for key, part in properties.items() if part is not False]
        required = set(schema.get("required", ()))
        name, literal, count = self._name, self._literal, len(parameters)
        made = [f"{name}: {name}_a_0"]
        for at, (key, part) in enumerate(parameters):
            for rule, opening in (("a", self._syntax.first), ("b", self._syntax.more)):
                head = literal(f"{opening}{key}{self._syntax.middle}")
                ways = [f"{head} {name}_v_{at} {name}_b_{at + 1}"]
                ways += [] if key in required else [f"{name}_{rule}_{at + 1}"]
                made.append(f"{name}_{rule}_{at}: {' | '.join(ways)}")
            made += self._value(f"{name}_v_{at}", part, schema)
        made.append(f"{name}_a_{count}: {literal(self._syntax.none) or _EMPTY}")
        made.append(f"{name}_b_{count}: {literal(self._syntax.last) or _EMPTY}")
        return made

    def _value(self, rule: str, part: Any, root: JsonObject) -> list[str]:
        end = self._syntax.end
        if not is_text(part):
            definitions = {key: root[key] for key in _DEFINITIONS if key in root}
            whole = {**definitions, **(part if isinstance(part, dict) else {})}
            schema = json.dumps({**whole, "x-guidance": root.get("x-guidance", STYLE)})
            return [f"{rule}: {rule}_j {self._literal(end)}", f"{rule}_j: %json {schema}"]
        texts = part.get("enum", [part["const"]] if "const" in part else [])
        if texts:
            ways = " | ".join(json.dumps(text + end, ensure_ascii=False) for text in texts)
            return [f"{rule}: {ways}"]
        return [f"{rule}[suffix={json.dumps(end, ensure_ascii=False)}]: /(?s:.*)/"]


def is_text(schema: Any) -> bool:
    """Whether a parameter can only be a text, which is then written without quotes."""
    if not isinstance(schema, dict):
        return False
    values: Sequence[Any] = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if values:
        return all(isinstance(value, str) for value in values)
    return schema.get("type") == "string"
