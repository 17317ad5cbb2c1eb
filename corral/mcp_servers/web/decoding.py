"""The coding of an answer's body, undone in pieces of bounded size (RFC 9110, 8.4)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from corral.mcp_servers.tool import ToolFault

ACCEPTED = "gzip, deflate"
"""What is asked for: codings whose output can be bounded piece by piece."""

_PIECE = 1 << 16
_GZIP_OR_ZLIB = 47


class Decoder:
    """Undoes one coding, ``identity`` included. Raises ``ToolFault`` for one not asked for."""

    def __init__(self, coding: str) -> None:
        self._coding = coding.strip().lower()
        if self._coding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            raise ToolFault(f"The answer is packed as {self._coding!r}, which was not asked for.")
        plain = self._coding in {"", "identity"}
        self._unpack = None if plain else zlib.decompressobj(_GZIP_OR_ZLIB)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` unpacks to, in pieces of at most 64 KiB."""
        if self._unpack is None:
            yield data
            return
        try:
            yield from self._pieces(data)
        except zlib.error as error:
            raise ToolFault("The answer is packed, and cannot be unpacked.") from error

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        assert self._unpack is not None
        while data and not self._unpack.eof:
            try:
                piece = self._unpack.decompress(data, _PIECE)
            except zlib.error:
                if self._begun or self._coding != "deflate":
                    raise
                self._unpack = zlib.decompressobj(-zlib.MAX_WBITS)  # as some servers mean it
                self._begun = True
                continue
            self._begun = True
            data = self._unpack.unconsumed_tail
            yield piece
