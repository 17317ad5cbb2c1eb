"""The labelled requests of bench/routing.py: 500 tools, and what people ask for in their own words.

``bench/data/routing`` is written by hand. A line of its ``tools_*.txt`` is a tool under its server:
``name: description | parameters``. A line of the requests names the tools of which any one does
what is asked: plain requests name what they are about, hints do not. The words, and the first
weights, were tuned on ``tuned.txt``, and ``held_out_*`` was written after that. The weights and the
gap of today were tuned on ``tuned_*``, which was written together with ``fresh_*``: for other
tools, drawn by lot, and before a weight was changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from corral.jsontypes import JsonObject
from corral.tools.contract import ToolSpec

Group = Literal[
    "tuned",
    "tuned_plain",
    "tuned_hints",
    "held_out_plain",
    "held_out_hints",
    "fresh_plain",
    "fresh_hints",
]
GROUPS: tuple[Group, ...] = get_args(Group)

_FOLDER = Path(__file__).parent / "data" / "routing"
_TYPES = {"int": "integer", "bool": "boolean", "list": "array", "obj": "object"}


@dataclass(frozen=True)
class Request:
    """What somebody asks for, and the tools of which any one does it."""

    text: str
    tools: frozenset[str]
    group: Group


@cache
def catalog() -> tuple[ToolSpec, ...]:
    """All tools, by servers."""
    found: list[ToolSpec] = []
    for path in sorted(_FOLDER.glob("tools_*.txt")):
        found += _tools(path.read_text("utf-8").splitlines())
    return tuple(found)


@cache
def requests(*groups: Group) -> tuple[Request, ...]:
    """The requests of these groups; of all when none is named."""
    return tuple(
        Request(text, frozenset(tools.split(", ")), group)
        for group in groups or GROUPS
        for line in (_FOLDER / f"{group}.txt").read_text("utf-8").splitlines()
        for tools, _, text in (line.partition(": "),)
    )


def _tools(lines: list[str]) -> Iterator[ToolSpec]:
    server, trusted = "", False
    for line in filter(None, lines):
        if line.startswith("["):
            server, _, mark = line[1:].partition("]")
            trusted = bool(mark.strip())
            continue
        name, _, rest = line.partition(": ")
        described, _, parameters = rest.rpartition("|")
        yield ToolSpec(
            server, name, described.strip(), _schema(parameters.split(",")), trusted=trusted
        )


def _schema(parameters: list[str]) -> JsonObject:
    properties: JsonObject = {}
    required: list[str] = []
    for parameter in filter(None, map(str.strip, parameters)):
        name, values = parameter.partition("=")[::2]
        name, kind = name.partition(":")[::2]
        if not name.endswith("?"):
            required.append(name)
        typed: JsonObject = {"type": _TYPES.get(kind, kind or "string")}
        properties[name.rstrip("?")] = {**typed, "enum": values.split("/")} if values else typed
    return {"type": "object", "properties": properties, "required": required}
