"""A tool call on one line, and a duration for people.

A call comes from a model, so all of it is cleaned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corral.cli.output import clean
from corral.runtime.call_words import arguments_in_words

if TYPE_CHECKING:
    from corral.jsontypes import JsonObject


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
