"""Labels: where a content came from, and whom it can be shown to.

Two lattices, as in information-flow control (Denning 1976; for agents: FIDES, arXiv:2505.23643, and
CaMeL, arXiv:2503.18813). What is made of several contents is untrusted if one of them is, and may
be shown to those whom all of them may be shown to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from corral.jsontypes import JsonObject

MAX_SOURCES = 40
"""How many sources a label names; of more it says how many."""


@dataclass(frozen=True)
class Label:
    """Where a content came from, and whom it can be shown to.

    ``sources`` say it in words, oldest first. ``untrusted``: somebody else than the user may have
    written in it. ``readers`` are the destinations that may have it: host names, servers
    (``server:mail``), in patterns with ``*``; ``None`` is everybody, and empty the user alone.
    """

    sources: tuple[str, ...] = ()
    untrusted: bool = False
    readers: frozenset[str] | None = None

    @property
    def private(self) -> bool:
        """Whether there is anybody who may not have it."""
        return self.readers is not None

    def join(self, *others: Label) -> Label:
        """The label of what is made of this and the others."""
        joined = self
        for other in others:
            if other not in (joined, PUBLIC):
                joined = _join(joined, other)
        return joined

    def to_json(self) -> JsonObject:
        """This label as a JSON object; ``from_json`` reads it back."""
        readers = None if self.readers is None else sorted(self.readers)
        return {"sources": list(self.sources), "untrusted": self.untrusted, "readers": readers}

    @classmethod
    def from_json(cls, data: Any) -> Label:
        """Read what ``to_json`` wrote; anything else is content of which nothing is known."""
        match data:
            case {"sources": list(sources), "untrusted": bool(untrusted), "readers": readers}:
                named = None if readers is None else frozenset(map(str, readers))
                return cls(tuple(map(str, sources)), untrusted, named)
            case _:
                return UNKNOWN


PUBLIC = Label()
"""What says nothing that anybody could have put in or that anybody may not have."""

USER = Label(("the user",))
"""What the user has written: whom to tell is what they ask for."""

UNKNOWN = Label(("an unknown source",), untrusted=True, readers=frozenset())
"""What nobody has labelled: the worst is assumed."""


def _join(one: Label, other: Label) -> Label:
    if one.readers is None or other.readers is None:
        readers = other.readers if one.readers is None else one.readers
    else:
        readers = one.readers & other.readers
    sources = tuple(dict.fromkeys((*one.sources, *other.sources)))
    return Label(sources[:MAX_SOURCES], one.untrusted or other.untrusted, readers)
