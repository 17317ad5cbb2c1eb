"""Labels: where a content came from, and whom it can be shown to.

Two lattices, as in information-flow control (Denning 1976; for agents: FIDES, arXiv:2505.23643, and
CaMeL, arXiv:2503.18813). What is made of several contents is untrusted if one of them is, and may
be shown to those whom all of them may be shown to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from corral.jsontypes import JsonObject

KEY = "label"
"""Where an outcome of the journal, and a message's ``additional_kwargs``, hold their label."""

MAX_SOURCES = 16
"""How many sources a label names; what it says of them all holds for those beyond, too."""


@dataclass(frozen=True)
class Label:
    """Where a content came from, and whom it can be shown to.

    ``sources`` say it in words, oldest first. ``untrusted``: somebody else than the user may have
    written in it. ``readers`` are the destinations that may have it: host names, servers
    (``server:mail``), in patterns with ``*``; ``None`` is everybody, and empty the user alone.
    ``confidential``: the user has said who the readers are, so it holds for trusted content too.
    """

    sources: tuple[str, ...] = ()
    untrusted: bool = False
    readers: frozenset[str] | None = None
    confidential: bool = False

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
        named = {"confidential": True} if self.confidential else {}
        return {
            "sources": list(self.sources),
            "untrusted": self.untrusted,
            "readers": readers,
            **named,
        }

    @classmethod
    def from_json(cls, data: Any) -> Label:
        """Read what ``to_json`` wrote; anything else is content of which nothing is known."""
        match data:
            case {
                "sources": list(sources),
                "untrusted": bool(untrusted),
                "readers": None | list() as readers,
            }:
                named = None if readers is None else frozenset(map(str, readers))
                confidential = data.get("confidential") is True
                return cls(tuple(map(str, sources)), untrusted, named, confidential)
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
    return Label(
        sources=tuple(dict.fromkeys((*one.sources, *other.sources)))[:MAX_SOURCES],
        untrusted=one.untrusted or other.untrusted,
        readers=readers,
        confidential=one.confidential or other.confidential,
    )


def unlabelled(value: JsonObject) -> JsonObject:
    """An outcome of the journal without its label: what the effect gave, and not where it was."""
    return {key: item for key, item in value.items() if key != KEY}
