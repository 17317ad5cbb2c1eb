"""Output kept in bounded space: the beginning, the end, and a count of what lay between."""

from __future__ import annotations


class Capture:
    """The head and the tail of a stream, each of at most ``half`` bytes."""

    def __init__(self, half: int) -> None:
        self._half = half
        self._head = bytearray()
        self._tail = bytearray()
        self.dropped = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        excess = len(self._tail) - self._half
        if excess > 0:
            del self._tail[:excess]
            self.dropped += excess

    def kept(self) -> bytes:
        """The bytes that were kept."""
        return bytes(self._head + self._tail)

    def text(self) -> str:
        """What was kept, with a line that says how much was not."""
        head = self._head.decode("utf-8", "replace")
        tail = self._tail.decode("utf-8", "replace")
        if not self.dropped:
            return (self._head + self._tail).decode("utf-8", "replace")
        return f"{head}\n[... {self.dropped} bytes left out ...]\n{tail}"
