"""Find the number or the JSON value in a model's answer, and values inside that."""

from __future__ import annotations

import json
import re
from typing import Any

from corral.jsontypes import Json

_NUMBER = re.compile(
    r"(?<![\w.])[-+\u2212]?"
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
    r"(?:[eE][-+]?[0-9]+)?"
)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\"([^\"]*)\"\]|\['([^']*)'\]")


def numbers(text: str) -> list[float]:
    """All numbers in the text, in order: ``1,234.5``, ``-3``, ``2e6``."""
    found = (match.group().replace(",", "") for match in _NUMBER.finditer(text))
    return [float(number.replace("\u2212", "-")) for number in found]


def find_json(text: str) -> Json:
    """The JSON value that the text is, or the first object or array in it.

    Raises ``ValueError`` when there is none.
    """
    try:
        return _load(text)
    except ValueError:
        pass
    decoder = json.JSONDecoder()
    for match in re.finditer(r"[\[{]", text):
        try:
            value: Json = decoder.raw_decode(text, match.start())[0]
        except (ValueError, RecursionError):
            continue
        return value
    raise ValueError("the answer holds no JSON")


def parse_path(path: str) -> list[str | int]:
    """The steps of ``$.items[0].name``. Raises ``ValueError`` when it is not such a path."""
    rest = path.removeprefix("$")
    if rest and not rest.startswith((".", "[")):
        rest = f".{rest}"
    steps: list[str | int] = []
    at = 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None:
            raise ValueError(f"{path!r} is not a path such as $.items[0].name")
        name, index, *quoted = match.groups()
        steps.append(int(index) if index is not None else next(s for s in (name, *quoted) if s))
        at = match.end()
    return steps


def look_up(value: Json, path: str) -> Json:
    """The value at ``path``. Raises ``LookupError`` that says which step is missing."""
    current: Any = value
    for step in parse_path(path):
        try:
            if isinstance(step, int) != isinstance(current, list):
                raise KeyError(step)
            current = current[step]
        except (KeyError, IndexError, TypeError) as error:
            raise LookupError(f"{path}: there is no {step!r}") from error
    found: Json = current
    return found


def _load(text: str) -> Json:
    try:
        value: Json = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value
