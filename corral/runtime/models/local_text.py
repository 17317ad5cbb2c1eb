"""Decides which part of a growing text may be shown already."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextGate:
    """Turns token bytes into text and holds back what may still turn out to be a marker.

    ``stops`` end the text where they begin; so do ``triggers``, which start a tool call. White
    space at both ends is dropped, so a marker on its own line leaves no trace.
    """

    def __init__(self, stops: Sequence[str] = (), triggers: Sequence[str] = ()) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._markers = [marker for marker in (*stops, *triggers) if marker]
        self._triggers = set(triggers)
        self._text = ""
        self._sent = 0
        self.found: str | None = None
        self.end = 0

    @property
    def triggered(self) -> bool:
        """Whether the text ended because a tool call begins at ``end``."""
        return self.found in self._triggers

    @property
    def length(self) -> int:
        """Characters seen, shown or not."""
        return len(self._text)

    def push(self, data: bytes) -> str:
        """Take the next bytes; return the text that can be shown now, which may be empty."""
        searched = max(0, len(self._text) - self._longest())
        self._text += self._decode(data)
        hits = [(self._text.find(marker, searched), marker) for marker in self._markers]
        hits = [hit for hit in hits if hit[0] >= 0]
        if hits:
            self.end, self.found = min(hits, key=lambda hit: (hit[0], -len(hit[1])))
            return self._give(self.end)
        return self._give(len(self._text) - self._held())

    def finish(self) -> str:
        """The rest of the text, when no more will come."""
        if self.found is None:
            self._text += self._decode(b"", True)
            self.end = len(self._text)
        return self._give(self.end)

    def _give(self, end: int) -> str:
        end = len(self._text[:end].rstrip())
        if end <= self._sent:
            return ""
        new = self._text[self._sent : end]
        if not self._text[: self._sent].strip():
            new = new.lstrip()
        self._sent = end
        return new

    def _held(self) -> int:
        """How many characters at the end may be the beginning of a marker."""
        for size in range(min(self._longest(), len(self._text)), 0, -1):
            tail = self._text[-size:]
            if any(marker.startswith(tail) for marker in self._markers):
                return size
        return 0

    def _longest(self) -> int:
        return max((len(marker) for marker in self._markers), default=0)
