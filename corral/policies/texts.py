"""The texts in a JSON value, and the same value with other texts.

Not recursive: how deep a value goes is its sender's choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Any

from corral.jsontypes import Json

Change = Callable[[Any, str], Json]
"""Given a text or a number, and the name that it has in its object: what to put in its place."""


LONG_NUMBER = 10**11
"""From here on a whole number may be an account's, and is looked at as a text is."""


def texts_of(value: Json) -> list[str]:
    """All texts in a value, names of members and long whole numbers included."""
    found: list[str] = []
    todo: list[Json] = [value]
    for item in todo:  # which grows meanwhile
        if isinstance(item, str):
            found.append(item)
        elif item is None or isinstance(item, int | float):  # cheaper than whether it is a mapping
            if isinstance(item, int) and item >= LONG_NUMBER:
                found.append(str(item))
        elif isinstance(item, dict | Mapping):
            found.extend([name for name in item if isinstance(name, str)])
            todo.extend(item.values())
        elif isinstance(item, list | tuple):
            todo.extend(item)
    return found


def changed(value: Json, change: Change) -> Json:
    """A copy of the value with every text, every whole number and every name changed.

    Names that become the same get a number.
    """
    root: dict[Any, Any] = {}
    todo: list[tuple[Any, Any, Json, str]] = [(root, "", value, "")]
    while todo:
        parent, key, item, name = todo.pop()
        if isinstance(item, str) or (isinstance(item, int) and not isinstance(item, bool)):
            parent[key] = change(item, name)
        elif isinstance(item, Mapping):
            names = _names(item, change)
            parent[key] = copy = dict.fromkeys(names)
            before = (name if isinstance(name, str) else "" for name in item)
            todo.extend(zip(repeat(copy), names, item.values(), before, strict=False))
        elif isinstance(item, list | tuple):
            parent[key] = entries = [None] * len(item)
            todo.extend(zip(repeat(entries), range(len(item)), item, repeat(name), strict=False))
        else:
            parent[key] = item
    result: Json = root[""]
    return result


def _names(item: Mapping[str, Json], change: Change) -> list[Any]:
    """The names in their order, all different."""
    names: dict[Any, None] = {}
    used: Counter[Any] = Counter()
    for name in item:
        clean = base = change(name, "") if isinstance(name, str) else name
        while clean in names or (clean != name and clean in item):
            used[base] += 1
            clean = f"{base}#{used[base] + 1}"
        names[clean] = None
    return list(names)
