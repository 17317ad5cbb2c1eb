"""PostgreSQL's messages as far as a login needs them.

Source: postgresql.org/docs, "Frontend/Backend Protocol", "Message Formats".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from corral.sandbox.network.streams import Stream

SECONDS = 15.0
"""How long either side may take for the next message of a login."""

VERSION = 3 << 16
CANCEL, SSL, GSS = 80877102, 80877103, 80877104
_LONGEST = 64 * 1024


class ProtocolError(OSError):
    """One side sent what is not PostgreSQL's protocol."""


@dataclass(frozen=True)
class Startup:
    """A client's first message: what it wants (``CANCEL`` or a version), and the whole of it."""

    code: int
    whole: bytes

    @property
    def is_newer(self) -> bool:
        """Whether it would rather speak a later minor version than 3.0."""
        return self.code > VERSION


class Messages:
    """Reads messages from a stream. ``rest`` is what was read beyond the last one."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    @property
    def rest(self) -> bytes:
        """Bytes that are already there and belong to what follows."""
        return bytes(self._buffer)

    async def startup(self) -> Startup:
        """The client's first message after those that ask for encryption, which get a no."""
        for _ in range(3):
            size, code = struct.unpack("!ii", await self._exactly(8))
            if not 8 <= size <= _LONGEST:
                raise ProtocolError("the client's first message has no usable length")
            body = await self._exactly(size - 8)
            if code not in (SSL, GSS):
                return Startup(code, struct.pack("!ii", size, code) + body)
            await self._stream.write(b"N")
        raise ProtocolError("the client asks for encryption again and again")

    async def next(self) -> tuple[bytes, bytes]:
        """The kind and the body of the next message."""
        kind, size = struct.unpack("!ci", await self._exactly(5))
        if not 4 <= size <= _LONGEST:
            raise ProtocolError("the server sent a message without a usable length")
        return kind, await self._exactly(size - 4)

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = await self._stream.read(SECONDS)
            if not data:
                raise ProtocolError("the connection ended in the middle of a login")
            self._buffer += data
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found


def message(kind: bytes, body: bytes) -> bytes:
    """One message; the first one of a client has no kind."""
    return kind + struct.pack("!i", len(body) + 4) + body


def greeting(parameters: Mapping[str, str]) -> bytes:
    """A client's StartupMessage."""
    texts = (part.encode() + b"\0" for pair in parameters.items() for part in pair)
    return message(b"", struct.pack("!i", VERSION) + b"".join(texts) + b"\0")


def accepted(startup: Startup) -> bytes:
    """What tells a client that it is logged in, and that 3.0 is spoken."""
    negotiated = message(b"v", struct.pack("!ii", VERSION, 0)) if startup.is_newer else b""
    return negotiated + message(b"R", struct.pack("!i", 0))


def refusal(code: str, text: str) -> bytes:
    """An ErrorResponse that ends the login. ``code`` is an SQLSTATE."""
    fields = (b"SFATAL", b"VFATAL", b"C" + code.encode(), b"M" + text.encode())
    return message(b"E", b"".join(field + b"\0" for field in fields) + b"\0")


def error_text(body: bytes) -> tuple[str, str]:
    """The SQLSTATE and the text of an ErrorResponse."""
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0")}
    return fields.get(b"C", "08006"), fields.get(b"M", "the server gave no reason")
