"""Read a text file in parts of bounded size."""

from __future__ import annotations

import os

from corral.mcp_servers.beneath import Roots, open_regular
from corral.mcp_servers.tool import Answer, Call, ToolFault

MAX_LINES = 2000
MAX_BYTES = 100_000
_CHUNK = 1 << 16
_SAMPLE = 8192


class Part:
    """The lines of a file from the one numbered ``first``, until there are enough."""

    def __init__(self, first: int, lines: int) -> None:
        self.first, self.lines = first, lines
        self.data = bytearray()
        self.line = 1
        self.taken = 0
        self.more = self.cut = False

    def feed(self, piece: bytes) -> bool:
        """Take one piece that ends with a line's end or within a line; false when full."""
        if self.line >= self.first:
            if self.taken >= self.lines:
                self.more = True
                return False
            room = MAX_BYTES - len(self.data)
            if len(piece) > room:
                self.cut = not self.data or not self.data.endswith(b"\n")
                if self.cut:
                    self.data += piece[:room]
                self.more = True
                return False
            self.data += piece
            self.taken += piece.endswith(b"\n")
        self.line += piece.endswith(b"\n")
        return True


def read_file(roots: Roots, call: Call) -> Answer:
    """The tool ``read_file``."""
    part = Part(int(call.number("offset", 1)), int(call.number("limit", MAX_LINES)))
    with roots.at(call.text("path")) as place, os.fdopen(open_regular(place), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if is_binary(file.read(_SAMPLE)):
            raise ToolFault(f"{place.shown} is a binary file ({size} bytes), not text.")
        file.seek(0)
        while piece := file.readline(_CHUNK):
            if not part.feed(piece) or call.cancelled.is_set():
                break
    if not size:
        return Answer("[the file is empty]")
    if not part.data and part.first > 1:
        raise ToolFault(f"{place.shown} has no line {part.first}; it has {part.line} at most.")
    text = bytes(part.data).decode("utf-8", "replace")
    return Answer(text + _note(part, text))


def is_binary(sample: bytes) -> bool:
    """Whether these first bytes are of a file that is not text."""
    return b"\0" in sample


def _note(part: Part, text: str) -> str:
    """What the reader must know besides the text."""
    notes: list[str] = []
    if "\ufffd" in text:
        notes.append("bytes that are not UTF-8 are shown as \ufffd")
    if part.cut:
        notes.append(f"line {part.line} is longer than {MAX_BYTES} bytes and is cut")
    if part.more:
        last = part.line if part.cut else part.first + part.taken - 1
        shown = f"lines {part.first} to {last} are shown"
        notes.append(f"{shown}, the file may go on: read on with offset={last + 1}")
    return "\n[" + "; ".join(notes) + "]" if notes else ""
