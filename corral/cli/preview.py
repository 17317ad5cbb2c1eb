"""A tool call in a form that a person can judge: its arguments, in full or on one line.

Everything here comes from a model, so all of it is cleaned.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from corral.cli.output import clean
from corral.runtime.call_words import arguments_in_words

if TYPE_CHECKING:
    from corral.jsontypes import Json, JsonObject

MAX_LINES = 60
"""Lines of one value or diff that are shown at first; the rest is counted."""


def argument_lines(args: JsonObject) -> Iterator[str]:
    """The arguments, one ``name: value`` each; values of several lines are indented below."""
    for name, value in args.items():
        shown = _shown(value)
        lines = shown.split("\n")
        if len(lines) == 1:
            yield f"{clean(name)}: {lines[0]}"
            continue
        yield f"{clean(name)}:"
        yield from (f"  {line}" for line in lines)


def _shown(value: Json) -> str:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list) and value and all(map(_is_statement, value)):
        return "\n".join(map(_statement, value))
    return clean(json.dumps(value, indent=2, ensure_ascii=False))


def _is_statement(value: Json) -> bool:
    """Whether it has the form of a statement of the ``sql`` server."""
    return isinstance(value, dict) and isinstance(value.get("sql"), str)


def _statement(value: Json) -> str:
    """The statement as it is written, and below it whatever is given along with it."""
    assert isinstance(value, dict)
    others = {name: each for name, each in value.items() if name != "sql"}
    lines = [str(value["sql"])]
    lines += [f"  {name}: {json.dumps(each, ensure_ascii=False)}" for name, each in others.items()]
    return clean("\n".join(lines))


def shorten(lines: list[str], limit: int | None) -> list[str]:
    """At most ``limit`` lines: the first and the last, with a count of what is left out."""
    if limit is None or len(lines) <= limit:
        return lines
    head = limit * 2 // 3
    tail = limit - head
    return [*lines[:head], f"… {len(lines) - limit} more lines …", *lines[-tail:]]


def call_text(name: str, args: JsonObject, width: int = 100) -> str:
    """A call on one line: ``files__read_file(path="a.txt")``, cut to about ``width``."""
    inside = clean(arguments_in_words(args).replace("\n", " "))
    if len(inside) > width:
        inside = inside[: width - 1] + "…"
    return f"{clean(name)}({inside})"


def duration(milliseconds: float | None) -> str:
    """A duration for people: ``0.3 s``, ``2 min 5 s``, empty when not known."""
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {seconds} s"
