"""How a model writes tool calls, as data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from corral.jsontypes import Json, JsonObject

ID = "\ue000"
"""Stands in a syntax's texts for the id of a call, which is the model's to invent."""

ID_LENGTH = 9
ID_LETTERS = "[A-Za-z0-9]"


@dataclass(frozen=True)
class ParameterSyntax:
    """Arguments written one by one: ``first NAME middle VALUE end``.

    Texts are written as they are, other values as JSON. ``end`` is what every value ends with, and
    no text may contain; then comes ``more`` and another name, or ``last`` after the last one.
    ``none`` is all that a call without arguments has instead.
    """

    first: str
    middle: str
    end: str
    more: str
    last: str
    none: str

    def render(self, args: JsonObject) -> str:
        """Arguments as this model would write them."""
        if not args:
            return self.none
        pairs = [f"{name}{self.middle}{_plain(value)}{self.end}" for name, value in args.items()]
        return self.first + self.more.join(pairs) + self.last


@dataclass(frozen=True)
class CallSyntax:
    """How one model writes its calls.

    ``prefix NAME middle ARGUMENTS close``, then ``between`` and another call from its name on, if
    the model can make several, and ``suffix`` after the last. ``trigger`` is the beginning of
    ``prefix`` if no plain answer contains that, else empty: then only ``prefix`` with the name of a
    tool begins a call. The arguments are one JSON object where there are no ``parameters``.
    """

    prefix: str
    middle: str
    close: str
    trigger: str
    between: str | None = None
    suffix: str = ""
    parameters: ParameterSyntax | None = None

    def render(self, *calls: tuple[str, JsonObject]) -> str:
        """Calls as this model would write them."""
        written = [f"{name}{self.middle}{self._args(args)}{self.close}" for name, args in calls]
        return self.prefix + (self.between or "").join(written) + self.suffix

    def triggers(self, names: Sequence[str]) -> tuple[str, ...]:
        """The texts that begin a call of one of these tools."""
        if self.trigger:
            return (self.trigger,)
        return tuple(f"{self.prefix}{name}{self.middle}" for name in names)

    def _args(self, args: JsonObject) -> str:
        if self.parameters is not None:
            return self.parameters.render(args)
        return json.dumps(args, ensure_ascii=False)


def _plain(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
