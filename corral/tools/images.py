"""The images of a tool's result: which are taken, and what stands for each in the text.

An image is data from outside. It is taken if its first bytes are those of its type and there is
room for it; any other is named in the text and not shown.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error
from collections.abc import Mapping

from corral.tools.contract import ToolImage
from corral.tools.text import one_line

MAX_IMAGES = 8
"""Images of one result."""

MAX_BYTES = 3 * 1024 * 1024
"""Bytes of all images of one result: as base64 no more than each provider takes of one image."""

_BEGINNINGS: Mapping[str, tuple[bytes, ...]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}


class Images:
    """The images of one result, collected as they come by in it."""

    def __init__(self) -> None:
        self._taken: list[ToolImage] = []
        self._room = MAX_BYTES

    @property
    def taken(self) -> tuple[ToolImage, ...]:
        """Those that are shown to a model that takes images."""
        return tuple(self._taken)

    def note(self, mime_type: str, base64: str) -> str:
        """Take an image if it can be; what stands in its place in the text."""
        size = len(base64) * 3 // 4
        about = f"image, {one_line(mime_type)}, {size:,} bytes"
        if len(self._taken) == MAX_IMAGES or size > self._room or not _is_image(mime_type, base64):
            return f"[{about}, not shown]"
        self._room -= size
        self._taken.append(ToolImage(mime_type, base64))
        return f"[{about}]"


def _is_image(mime_type: str, base64: str) -> bool:
    try:
        data = b64decode(base64, validate=True)
    except (Error, ValueError):
        return False
    if mime_type == "image/webp" and data[8:12] != b"WEBP":
        return False
    return data.startswith(_BEGINNINGS.get(mime_type, ()))
