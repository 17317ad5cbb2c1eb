"""Which of many texts of tokens shares the longest beginning with another.

Among sorted texts it is always one of the two neighbours of where the other one would stand, so
that a look-up is a bisection, whatever the number of texts.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np

_WIDTH = 4


class PrefixIndex:
    """Texts (``token_bytes``) by the names that they were added with."""

    def __init__(self) -> None:
        self._sorted: list[tuple[bytes, str]] = []
        self._texts: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def text(self, name: str) -> bytes:
        """The text of a name; empty when there is none."""
        return self._texts.get(name, b"")

    def add(self, name: str, text: bytes) -> None:
        """Add a text, in the place of what had this name."""
        self.discard(name)
        self._texts[name] = text
        insort(self._sorted, (text, name))

    def discard(self, name: str) -> None:
        """Remove the text of a name, if there is one."""
        text = self._texts.pop(name, None)
        if text is not None:
            del self._sorted[bisect_left(self._sorted, (text, name))]

    def longest(self, text: bytes) -> tuple[str, int] | None:
        """Who shares the longest beginning, and its tokens; of equal ones the shortest text."""
        at = bisect_left(self._sorted, (text,))
        best: tuple[int, int, str] | None = None
        for found, name in self._sorted[max(0, at - 1) : at + 1]:
            shared = common(found, text)
            if shared:
                best = max(best or (0, 0, ""), (shared, -len(found), name))
        return (best[2], best[0]) if best else None

    def longest_whole(self, text: bytes) -> tuple[str, int] | None:
        """The longest text that the other begins with, and its tokens."""
        while text:
            # What is sorted before the next longer text is this one or smaller.
            at = bisect_left(self._sorted, (text + b"\0",))
            if at == 0:
                return None
            found, name = self._sorted[at - 1]
            shared = common(found, text)
            if shared * _WIDTH == len(found):
                return name, shared
            text = text[: shared * _WIDTH]
        return None


def common(first: bytes, second: bytes) -> int:
    """How many tokens two texts have in common at their beginning."""
    count = min(len(first), len(second)) // _WIDTH
    one, other = (np.frombuffer(text, np.uint32, count) for text in (first, second))
    differs = one != other
    at = int(differs.argmax()) if count else 0
    return at if count and differs[at] else count
