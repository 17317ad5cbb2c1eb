"""Byte streams with time limits, and TLS over any of them.

asyncio's own upgrade to TLS loses bytes that were read too early, which a client can arrange.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol, TypeVar

from corral.sandbox.network.traffic import Record

CHUNK = 64 * 1024

T = TypeVar("T")


class Stream(Protocol):
    """Both directions of a connection. Raises ``OSError`` (``TimeoutError`` among them)."""

    async def read(self, seconds: float) -> bytes:
        """The next bytes; none at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting while the other side takes none."""
        ...

    async def finish(self) -> None:
        """Say that no more will be sent."""
        ...

    def close(self) -> None:
        """Drop the connection. Safe to call twice."""
        ...


class SocketStream:
    """A ``Stream`` over asyncio's streams. ``patience`` is how long a write may take."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: float
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._patience = patience

    async def read(self, seconds: float) -> bytes:
        """See ``Stream``."""
        async with asyncio.timeout(seconds):
            return await self.reader.read(CHUNK)

    async def write(self, data: bytes) -> None:
        """See ``Stream``."""
        self.writer.write(data)
        async with asyncio.timeout(self._patience):
            await self.writer.drain()

    async def finish(self) -> None:
        """See ``Stream``. TLS of asyncio's has no half of a connection: it stays open."""
        if self.writer.can_write_eof():
            with suppress(OSError):
                self.writer.write_eof()

    def close(self) -> None:
        """See ``Stream``."""
        self.writer.close()


Handler = Callable[[SocketStream, SocketStream, Record], Awaitable[None]]
"""Speaks for a forwarded port: client, service (connected to the checked address), and what is to
be told of the bytes that flow. Raises ``OSError``."""


class TlsStream:
    """A ``Stream`` in TLS over another one: as a server, or as a client of the host ``server``."""

    def __init__(self, below: Stream, context: ssl.SSLContext, server: str | None = None) -> None:
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server is None, server_hostname=server
        )

    async def handshake(self, early: bytes, seconds: float) -> None:
        """Agree on keys; ``early`` was read already. Raises ``OSError`` (``ssl.SSLError``)."""
        self._incoming.write(early)
        async with asyncio.timeout(seconds):
            await self._carry(self.tls.do_handshake, seconds)

    async def read(self, seconds: float) -> bytes:
        """See ``Stream``."""
        try:
            return await self._carry(lambda: self.tls.read(CHUNK), seconds)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def write(self, data: bytes) -> None:
        """See ``Stream``."""
        self.tls.write(data)
        await self._flush()

    async def finish(self) -> None:
        """See ``Stream``."""
        with suppress(ssl.SSLError):
            self.tls.unwrap()
        await self._flush()

    def close(self) -> None:
        """See ``Stream``."""
        self._below.close()

    async def _carry(self, step: Callable[[], T], seconds: float) -> T:
        """Repeat a step of TLS, with what it needs from below, until it gives something."""
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                await self._flush()
                if data := await self._below.read(seconds):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                await self._flush()
                return done

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._below.write(data)
