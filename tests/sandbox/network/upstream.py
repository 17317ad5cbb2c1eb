"""Services and clients for tests of the proxy: raw bytes on both sides, nothing helpful between."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from corral.sandbox.network.proxy import Proxy
from corral.sandbox.network.rules import Network, NetworkRule
from corral.sandbox.network.tls import Authority
from corral.sandbox.network.traffic import Attempted, Ended
from corral.sandbox.network.ways import Bounds, Ways

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
SETTING = "network of [mcp.test]"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Service:
    """A service on loopback: what it was sent, head by head, and where it listens."""

    port: int = 0
    heads: list[str] = field(default_factory=list)
    connections: int = 0


@asynccontextmanager
async def service(
    answer: bytes = OK, *, serve: Serve | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Service]:
    """A service that gives ``answer`` to each connection's first request, or does as ``serve``."""
    found = Service()

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(answer)
        await writer.drain()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.connections += 1
        try:
            await (serve or answers)(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()


class Resolver:
    """Answers with one list of addresses after the other; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        del port
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


LOOPBACK = Resolver(["127.0.0.1"])


@dataclass
class Log:
    """A ``Watch`` that keeps what it is told."""

    attempted: list[Attempted] = field(default_factory=list)
    ended_: list[Ended] = field(default_factory=list)

    async def __call__(self, attempted: Attempted) -> Log:
        self.attempted.append(attempted)
        return self

    async def flows(self, sent: int, received: int) -> None:
        """See ``Meter``."""

    async def ended(self, end: Ended) -> None:
        """See ``Meter``."""
        self.ended_.append(end)


@dataclass
class Client:
    """One connection to a proxy's socket, in raw bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """All that comes until the end."""
        async with asyncio.timeout(10):
            return await self.reader.read(-1)

    async def head(self) -> bytes:
        """An answer's status line and headers."""
        async with asyncio.timeout(10):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def exactly(self, size: int) -> bytes:
        """So many bytes."""
        async with asyncio.timeout(10):
            return await self.reader.readexactly(size)


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Client]:
    """A client of a proxy's socket."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def proxy(*rules: NetworkRule, **ways: object) -> Proxy:
    """A proxy for these rules; every name leads to loopback unless the test says otherwise."""
    options = {"resolve": LOOPBACK, "bounds": Bounds(answer=5, idle=5, head_seconds=5), **ways}
    return Proxy(Ways(Network(rules), SETTING, **options))  # type: ignore[arg-type]  # as given


async def ask(path: Path, request: bytes) -> bytes:
    """What a proxy answers to a request, until it closes the connection, politely or not."""
    async with connected(path) as client:
        try:
            await client.send(request)
            return await client.rest()
        except (BrokenPipeError, ConnectionResetError):
            return b""


def get(port: int, *lines: str, host: str = "service.test", path: str = "/") -> bytes:
    """A request to a proxy in plain HTTP, for one answer."""
    head = [f"GET http://{host}:{port}{path} HTTP/1.1", f"Host: {host}:{port}", *lines]
    return "\r\n".join([*head, "Connection: close", "", ""]).encode()


@dataclass
class Trust:
    """An authority for services in tests, and what trusts it."""

    authority: Authority = field(default_factory=Authority)

    def server(self, host: str) -> ssl.SSLContext:
        """How a service shows that it is ``host``."""
        return self.authority.context(host)

    def client(self) -> ssl.SSLContext:
        """Trusts this authority, and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        own = self.authority.trusted().rpartition(b"-----BEGIN CERTIFICATE-----")
        context.load_verify_locations(cadata=(own[1] + own[2]).decode())
        return context
