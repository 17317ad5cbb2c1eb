"""The tool ``read_file``: text in parts of bounded size, and pictures."""

from __future__ import annotations

import io
import os
from typing import BinaryIO

from corral.mcp_servers.beneath import Place, Roots, open_regular
from corral.mcp_servers.files.pictures import Picture, picture_of
from corral.mcp_servers.files.workspace import PATH, Workspace
from corral.mcp_servers.tool import MAX_BLOCKS, READS, Answer, Call, Image, Tool, ToolFault

MAX_LINES = 2000
MAX_BYTES = 100_000
_CHUNK = 1 << 16
_SAMPLE = 8192
_MAX_DECODED = 8 * 1024 * 1024
_BOMS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
)
ENCODINGS = (
    *("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "cp1251"),
    *("iso8859-15", "mac-roman", "cp437", "koi8-r", "shift_jis", "euc-jp", "gb18030", "big5"),
    "euc-kr",
)
"""The encodings that a text file can be read in."""


def tools(workspace: Workspace) -> list[Tool]:
    """The tool over a workspace."""
    return [
        Tool(
            name="read_file",
            title="Read a file",
            description=(
                "Read a text file, or some of its lines; a long file comes in parts, and the "
                "answer says how to read on. A PNG, JPEG, GIF or WebP file is given as a picture."
            ),
            properties={
                "path": PATH,
                "offset": {
                    "type": "integer",
                    "minimum": 1,
                    "default": 1,
                    "description": "The first line to read, counted from 1.",
                },
                "limit": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_LINES,
                    "default": MAX_LINES,
                    "description": "How many lines to read at most.",
                },
                "encoding": {
                    "type": "string",
                    "enum": list(ENCODINGS),
                    "description": "How the text is encoded; UTF-8, or as its byte order mark "
                    "says, when left out.",
                },
            },
            required=("path",),
            effects=READS,
            run=workspace.reading(read_file),
        )
    ]


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
    with roots.at(call.text("path")) as place, os.fdopen(open_regular(place), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        sample = file.read(_SAMPLE)
        file.seek(0)
        encoding = call.text("encoding") or _marked(sample)
        if encoding not in ("", "utf-8"):
            return _text(place, io.BytesIO(_as_utf8(place, file, encoding)), call, size)
        picture = picture_of(sample)
        if picture is not None:
            return _picture(place, file, picture, size)
        if is_binary(sample):
            raise ToolFault(f"{place.shown} is a binary file ({size} bytes), not text.")
        return _text(place, file, call, size)


def is_binary(sample: bytes) -> bool:
    """Whether these first bytes are of a file that is not text."""
    return b"\0" in sample


def decoded(data: bytes) -> str | None:
    """The text of a file, as its byte order mark says or UTF-8; ``None`` if it is none."""
    encoding = _marked(data)
    if not encoding and is_binary(data[:_SAMPLE]):
        return None
    return data.decode(encoding or "utf-8", "replace")


def _marked(data: bytes) -> str:
    return next((encoding for mark, encoding in _BOMS if data.startswith(mark)), "")


def _as_utf8(place: Place, file: BinaryIO, encoding: str) -> bytes:
    data = file.read(_MAX_DECODED + 1)
    if len(data) > _MAX_DECODED:
        raise ToolFault(
            f"{place.shown} is larger than {_MAX_DECODED} bytes; in {encoding} it cannot be read."
        )
    return data.decode(encoding, "replace").encode()


def _picture(place: Place, file: BinaryIO, picture: Picture, size: int) -> Answer:
    if size > MAX_BLOCKS:
        raise ToolFault(f"{place.shown} is a {picture} of {size} bytes, too large to be shown.")
    image = Image(file.read(MAX_BLOCKS), picture.mime)
    return Answer(f"{place.shown} is a {picture} ({size} bytes).", blocks=(image,))


def _text(place: Place, file: BinaryIO, call: Call, size: int) -> Answer:
    part = Part(int(call.number("offset", 1)), int(call.number("limit", MAX_LINES)))
    while piece := file.readline(_CHUNK):
        if not part.feed(piece) or call.cancelled.is_set():
            break
        call.progress(file.tell(), size)
    if not size:
        return Answer("[the file is empty]")
    if not part.data and part.first > 1:
        raise ToolFault(f"{place.shown} has no line {part.first}; it has {part.line} at most.")
    text = bytes(part.data).decode("utf-8", "replace")
    return Answer(text + _note(part, text))


def _note(part: Part, text: str) -> str:
    """What the reader must know besides the text."""
    notes: list[str] = []
    if "\ufffd" in text:
        notes.append("bytes that are not in the encoding are shown as \ufffd")
    if part.cut:
        notes.append(f"line {part.line} is longer than {MAX_BYTES} bytes and is cut")
    if part.more:
        last = part.line if part.cut else part.first + part.taken - 1
        shown = f"lines {part.first} to {last} are shown"
        notes.append(f"{shown}, the file may go on: read on with offset={last + 1}")
    return "\n[" + "; ".join(notes) + "]" if notes else ""
