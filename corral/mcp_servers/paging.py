"""Results that come in pages: the arguments of a tool that has them, and what a page says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from corral.mcp_servers.tool import Call, JsonObject

T = TypeVar("T")


class Page(NamedTuple, Generic[T]):
    """Some of many results: those from ``offset`` on, counted from 0, out of ``total``."""

    items: Sequence[T]
    offset: int
    total: int

    @property
    def next(self) -> int | None:
        """Where the next page starts; ``None`` after the last one."""
        end = self.offset + len(self.items)
        return end if end < self.total else None

    def note(self, things: str) -> str:
        """A line that says what is missing and how to get it; empty when nothing is."""
        if not self.offset and self.next is None:
            return ""
        shown = f"{self.offset + 1} to {self.offset + len(self.items)}" if self.items else "none"
        more = "" if self.next is None else f": go on with offset={self.next}"
        return f"[{things}: {shown} of {self.total}{more}]"


def page_arguments(most: int, default: int) -> dict[str, JsonObject]:
    """The arguments ``offset`` and ``limit`` of a tool whose results come in pages."""
    offset = "How many results to leave out; the answer says where the next page starts."
    return {
        "offset": {"type": "integer", "minimum": 0, "default": 0, "description": offset},
        "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": most,
            "default": default,
            "description": "How many results to give at most.",
        },
    }


def page_of(items: Sequence[T], call: Call, default: int) -> Page[T]:
    """The page of ``items`` that a call with ``page_arguments`` asks for."""
    offset, limit = int(call.number("offset", 0)), int(call.number("limit", default))
    return Page(items[offset : offset + limit], offset, len(items))
