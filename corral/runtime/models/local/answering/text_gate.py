"""Decides which part of a growing text may be shown already."""

from __future__ import annotations

from collections.abc import Sequence


class TextGate:
    """Holds back of a text what may still turn out to be a marker.

    ``stops`` end the text where they begin; so do ``triggers``, which start a tool call. White
    space at both ends is dropped, so a marker on its own line leaves no trace.
    """

    def __init__(self, stops: Sequence[str] = (), triggers: Sequence[str] = ()) -> None:
        self._markers = [marker for marker in (*stops, *triggers) if marker]
        self._longest = max((len(marker) for marker in self._markers), default=0)
        self._triggers = set(triggers)
        self._tail = ""
        self._gap = ""
        self._shown = False
        self._before = 0
        self.found: str | None = None
        self.end = 0
        self.rest = ""

    @property
    def triggered(self) -> bool:
        """Whether the text ended because a tool call begins at ``end``."""
        return self.found in self._triggers

    def push(self, text: str) -> str:
        """Take more text; return what can be shown now, which may be empty."""
        self._tail += text
        hits = [(self._tail.find(marker), marker) for marker in self._markers]
        hits = [hit for hit in hits if hit[0] >= 0]
        if hits:
            at, self.found = min(hits, key=lambda hit: (hit[0], -len(hit[1])))
            self.rest = self._tail[at + len(self.found) :]
            return self._give(at)
        return self._give(len(self._tail) - self._held())

    def finish(self) -> str:
        """The rest of the text, when no more will come."""
        return "" if self.found is not None else self._give(len(self._tail))

    def _give(self, count: int) -> str:
        """Let a part of the tail go; white space waits for what comes after it."""
        given, self._tail = self._gap + self._tail[:count], self._tail[count:]
        self._before += count
        self.end = self._before
        text = given.rstrip()
        self._gap = given[len(text) :]
        if not self._shown:
            text = text.lstrip()
            self._gap = self._gap if text else ""
        self._shown = self._shown or bool(text)
        return text

    def _held(self) -> int:
        """How many characters at the end may be the beginning of a marker."""
        for size in range(min(self._longest, len(self._tail)), 0, -1):
            tail = self._tail[-size:]
            if any(marker.startswith(tail) for marker in self._markers):
                return size
        return 0
