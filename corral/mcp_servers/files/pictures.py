"""What kind of picture a file holds, and how large it is, by its first bytes.

Source: the PNG, GIF, JPEG and WebP specifications.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Picture(NamedTuple):
    """A MIME type, and width and height in pixels where the first bytes say so."""

    mime: str
    size: tuple[int, int] | None

    def __str__(self) -> str:
        shown = f", {self.size[0]} x {self.size[1]} pixels" if self.size else ""
        return f"{self.mime} image{shown}"


def picture_of(start: bytes) -> Picture | None:
    """The picture that a file starts with; ``None`` when it is none that models know."""
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return Picture("image/png", _pair(start[16:24], "big"))
    if start.startswith((b"GIF87a", b"GIF89a")):
        return Picture("image/gif", _pair(start[6:10], "little"))
    if start.startswith(b"\xff\xd8\xff"):
        return Picture("image/jpeg", _of_jpeg(start))
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return Picture("image/webp", _of_webp(start))
    return None


def _pair(data: bytes, order: Literal["big", "little"]) -> tuple[int, int] | None:
    half = len(data) // 2
    width, height = (int.from_bytes(part, order) for part in (data[:half], data[half:]))
    return (width, height) if half else None


def _of_jpeg(start: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(start) and start[at] == 0xFF:
        if start[at + 1] in _JPEG_SIZES:
            size = _pair(start[at + 5 : at + 9], "big")
            return size and (size[1], size[0])
        at += 2 + int.from_bytes(start[at + 2 : at + 4], "big")
    return None


def _of_webp(start: bytes) -> tuple[int, int] | None:
    if start[12:16] == b"VP8X" and len(start) >= 30:
        width, height = (int.from_bytes(start[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    return None
