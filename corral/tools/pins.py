"""Tools as they were when they were trusted, and what has changed since.

A server can change what it says of its tools at any time, after somebody has looked at them. So the
definitions are pinned by fingerprint at first use; what is changed or new later is not offered
until it is trusted. What a definition says is shown to a model, so a text that hides something, or
speaks to the model instead of describing a tool, is not trusted by merely being first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import unified_diff
from typing import Protocol

from corral.jsontypes import JsonObject, digest
from corral.tools.suspicion import suspicions
from corral.tools.text import clean, one_line
from corral.tools.wire import Declared

MAX_KEPT = 20_000
"""Characters of a description that are kept to show a change; the fingerprint is of all of it."""


@dataclass(frozen=True)
class Pin:
    """One tool as it was declared: its definition, and the fingerprint of it."""

    tool: str
    fingerprint: str
    definition: JsonObject = field(hash=False)

    @classmethod
    def of(cls, tool: Declared) -> Pin:
        """The pin of a declared tool."""
        whole = _definition(tool)
        kept = {**whole, "description": tool.description[:MAX_KEPT]}
        return cls(tool.name, digest(whole), kept)


@dataclass(frozen=True)
class Pins:
    """All tools of a server by name, and its instructions, which no model of ours is shown."""

    server: str
    tools: Mapping[str, Pin]
    instructions: str = ""

    @classmethod
    def of(cls, server: str, declared: Iterable[Declared], instructions: str = "") -> Pins:
        """What a server declares now; of two tools of one name the first counts."""
        tools: dict[str, Pin] = {}
        for tool in declared:
            tools.setdefault(tool.name, Pin.of(tool))
        return cls(server, tools, instructions[:MAX_KEPT])

    def only(self, names: Iterable[str]) -> Pins:
        """The same with some of its tools."""
        return Pins(self.server, {name: self.tools[name] for name in names}, self.instructions)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What in the definitions a person should look at before trusting them, in words."""
        found = [
            f"{one_line(pin.tool, 80)}: {why}"
            for pin in self.tools.values()
            for why in suspicions(texts_of(pin.definition))
        ]
        return (*found, *(f"its instructions: {why}" for why in suspicions([self.instructions])))


class PinStore(Protocol):
    """Where pins are kept between processes. Every method raises ``StorageError``."""

    async def load(self, server: str) -> Pins | None:
        """What is trusted of a server; ``None`` for one that was never used."""
        ...

    async def first(self, pins: Pins) -> Pins:
        """Keep what a server declares at its first use; gives what another has kept before."""
        ...

    async def trust(self, pins: Pins) -> None:
        """Trust a server's tools as they are in ``pins``, and nothing else of it."""
        ...

    async def forget(self, server: str) -> None:
        """Forget a server: its next use is its first."""
        ...


@dataclass(frozen=True)
class Comparison:
    """How what a server declares differs from what is trusted of it: the names of tools."""

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    instructions: bool = False

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return self == Comparison()


def compare(trusted: Pins | None, now: Pins) -> Comparison:
    """What differs; of a server that was never used all is new."""
    before = trusted.tools if trusted else {}
    return Comparison(
        new=tuple(name for name in now.tools if name not in before),
        changed=tuple(
            name
            for name, pin in now.tools.items()
            if name in before and before[name].fingerprint != pin.fingerprint
        ),
        gone=tuple(name for name in before if name not in now.tools),
        instructions=trusted is not None and trusted.instructions != now.instructions,
    )


def difference(trusted: Pins | None, now: Pins) -> list[str]:
    """What differs, as the lines of a unified diff, safe to show."""
    before = trusted or Pins(now.server, {})
    names = dict.fromkeys((*before.tools, *now.tools))
    lines: list[str] = []
    for name in names:
        old, new = before.tools.get(name), now.tools.get(name)
        if old is not None and new is not None and old.fingerprint == new.fingerprint:
            continue
        lines += _diff(name, _lines(old), _lines(new))
    if before.instructions != now.instructions:
        old_text, new_text = _shown(before.instructions), _shown(now.instructions)
        lines += _diff("instructions", old_text.splitlines(), new_text.splitlines())
    return lines


def _definition(tool: Declared) -> JsonObject:
    """All that a model, or a rule, could go by."""
    hints = tool.hints
    return {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "input_schema": tool.input_schema,
        "output_schema": tool.output_schema,
        "read_only": hints.read_only,
        "destructive": hints.destructive,
        "idempotent": hints.idempotent,
        "open_world": hints.open_world,
    }


def texts_of(definition: JsonObject) -> Iterable[str]:
    """Every text in a definition: names, descriptions, and all in the schemas."""
    left: list[object] = [definition]
    while left:
        match left.pop():
            case str(text):
                yield text
            case list(items):
                left += items
            case dict(fields):
                left += [*fields, *fields.values()]
            case _:
                pass


def _lines(pin: Pin | None) -> list[str]:
    if pin is None:
        return []
    # In ASCII, so that a character that no screen shows is seen to be there.
    return json.dumps(pin.definition, indent=1, sort_keys=True).splitlines()


def _shown(text: str) -> str:
    return clean(text.encode("ascii", "backslashreplace").decode("ascii"))


def _diff(name: str, before: list[str], after: list[str]) -> list[str]:
    shown = one_line(name, 80)
    return list(unified_diff(before, after, f"{shown} (trusted)", f"{shown} (now)", lineterm=""))
