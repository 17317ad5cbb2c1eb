"""Runs somebody's chat template: without reach, and with an end.

Jinja's sandbox keeps a template from reaching anything. What it leaves open is work without end:
loops within loops, a text that is doubled again and again. So every loop, operation, filter and
call is watched, by time and by the size of what it makes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from datetime import time as clock
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from corral.jsontypes import JsonObject

_SECONDS = 2.0
_MAX_TEXT = 16_000_000
_MAX_NUMBER = 100_000
_WATCH = "watched__"
_JOIN = "joined__"


class RunawayTemplateError(TemplateError):
    """A template takes too long, or makes too much."""


class BoundedTemplate:
    """A compiled template. Raises Jinja's ``TemplateError`` for a source that is none."""

    def __init__(self, source: str) -> None:
        self._environment = _Environment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
        )
        self._template: Template = self._environment.from_string(
            _watched(self._environment.parse(source))
        )

    def render(self, **variables: Any) -> str:
        """The text, within two seconds of work."""
        self._environment.deadline = time.monotonic() + _SECONDS
        return self._template.render(**variables)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.deadline = 0.0
        self.globals.update(raise_exception=_raise, strftime_now=_today)
        self.filters["tojson"] = _tojson
        for name, made in list(self.filters.items()):
            self.filters[name] = self._checked(made)
        self.filters[_WATCH] = self._items
        self.filters[_JOIN] = lambda parts: self._bounded("".join(map(str, self._sized(parts))))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """One operation, if what it makes is of bounded size."""
        if operator == "**" or (operator == "*" and _times(left, right) > _MAX_TEXT):
            self._check_number(left, right)
        if operator == "%" and isinstance(left, str) and any(map(str.isdigit, left)):
            raise RunawayTemplateError("it formats texts with widths")
        return self._bounded(super().call_binop(context, operator, left, right))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  # as in jinja2: its names must not meet those of arguments
        """One call, of a method, a macro or a global."""
        __self._check_number(*args)
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str | list | tuple):
            texts = sum(len(one) for one in args if isinstance(one, str))
            if len(owner) * max(1, texts) > _MAX_TEXT:
                raise RunawayTemplateError("it makes too long a text")
        return __self._bounded(super().call(__context, __obj, *args, **kwargs))

    def _checked(self, made: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*args: Any, **kwargs: Any) -> Any:
            self._check_number(*args, *kwargs.values())
            texts = [len(one) for one in args if isinstance(one, str)]
            if len(texts) > 1 and texts[0] * max(1, sum(texts[1:])) > _MAX_TEXT:
                raise RunawayTemplateError("it makes too long a text")
            return self._bounded(made(*args, **kwargs))

        checked.__dict__.update(
            getattr(made, "__dict__", {})
        )  # how Jinja passes its context to a filter
        return checked

    def _items(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self._check_time()
            yield item

    def _sized(self, parts: list[Any]) -> list[Any]:
        if sum(len(part) for part in parts if isinstance(part, str)) > _MAX_TEXT:
            raise RunawayTemplateError("it makes too long a text")
        return parts

    def _bounded(self, value: Any) -> Any:
        self._check_time()
        if isinstance(value, str | list | tuple) and len(value) > _MAX_TEXT:
            raise RunawayTemplateError("it makes too long a text")
        return value

    def _check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise RunawayTemplateError(f"it takes more than {_SECONDS:g} seconds")

    def _check_number(self, *values: Any) -> None:
        if any(isinstance(value, int | float) and abs(value) > _MAX_NUMBER for value in values):
            raise RunawayTemplateError("it works with too large a number")


def _watched(tree: nodes.Template) -> nodes.Template:
    """The template with its loops and its joined texts going through filters of ours."""
    for loop in tree.find_all(nodes.For):
        loop.iter = nodes.Filter(loop.iter, _WATCH, [], [], None, None, lineno=loop.lineno)
    for parent in [tree, *tree.find_all(nodes.Node)]:
        for name, value in list(parent.iter_fields()):
            if isinstance(value, nodes.Concat):
                setattr(parent, name, _joined(value))
            elif isinstance(value, list):
                value[:] = [_joined(one) if isinstance(one, nodes.Concat) else one for one in value]
    return tree


def _joined(concat: nodes.Concat) -> nodes.Filter:
    parts = nodes.List(concat.nodes, lineno=concat.lineno)
    return nodes.Filter(parts, _JOIN, [], [], None, None, lineno=concat.lineno)


def _times(left: Any, right: Any) -> int:
    """How long a product is: a repeated text or list, or a number."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, str | list | tuple) and isinstance(other, int):
            return len(one) * abs(other)
    return 0


class _Generation(Extension):
    """Accepts ``{% generation %}``, which training code uses to mark answers, and ignores it."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it as a plain set

    def parse(self, parser: Any) -> Any:
        """Keep the body of the block as it is."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(value: Any, indent: int | None = None, **_: JsonObject) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _today(form: str) -> str:
    """Today in a form; the time of day is always midnight, or no prompt would begin as another."""
    return datetime.combine(date.today(), clock.min).strftime(form)
