"""How the proxy gets from a request to a service: what is allowed, and one checked connection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache

from corral.sandbox.network.addresses import (
    RefusedAddressError,
    Resolve,
    checked_addresses,
    system_resolve,
)
from corral.sandbox.network.judge import RefusedError, Wanted
from corral.sandbox.network.rules import Network
from corral.sandbox.network.streams import CHUNK, SocketStream, Stream
from corral.sandbox.network.traffic import (
    Attempted,
    Record,
    UnrecordedError,
    Watch,
    recorded,
    unwatched,
)

MiB = 1024**2
_LONGEST_METHOD, _LONGEST_PATH = 20, 1000  # characters that are recorded


@dataclass(frozen=True)
class Bounds:
    """Limits of the proxy: bytes, and seconds.

    ``head`` bounds a request's or an answer's headers, ``most`` all that flows one way over one
    connection. ``head_seconds`` is how long a client may take for a request's headers, ``idle``
    how long nothing may flow, ``answer`` how long a service may think.
    """

    head: int = 64 * 1024
    most: int = 1024 * MiB
    head_seconds: float = 30.0
    connect: float = 15.0
    answer: float = 600.0
    idle: float = 600.0
    clients: int = 128


@cache
def _system_trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


@dataclass(frozen=True)
class Ways:
    """All ways out. ``setting`` names what allows more: ``network of [mcp.NAME]``.

    ``trust`` is whose certificates count for services; ``None``: what this machine trusts.
    """

    network: Network
    setting: str
    watch: Watch = unwatched
    resolve: Resolve = system_resolve
    bounds: Bounds = field(default_factory=Bounds)
    trust: ssl.SSLContext | None = None

    @asynccontextmanager
    async def opened(
        self, wanted: Wanted, *, private: bool, tls: bool = False
    ) -> AsyncIterator[tuple[SocketStream, Record]]:
        """A connection to the service, from its announcement to its end.

        Raises ``RefusedError`` when it may not or cannot be had.
        """
        try:
            addresses = await self._addresses(wanted, private)
        except RefusedError as refusal:
            await self.refused(wanted, refusal)
            raise
        trust = (self.trust or _system_trust()) if tls else None
        async with self._recorded(_attempted(wanted, addresses=addresses)) as record:
            stream = await self._connect(wanted, addresses, record, trust)
            try:
                yield stream, record
            finally:
                stream.close()

    async def refused(self, wanted: Wanted, refusal: RefusedError) -> None:
        """Record that a connection is not opened. Raises ``RefusedError`` when that cannot be."""
        async with self._recorded(_attempted(wanted, refused=str(refusal))):
            pass

    @asynccontextmanager
    async def _recorded(self, attempted: Attempted) -> AsyncIterator[Record]:
        try:
            async with recorded(self.watch, attempted) as record:
                yield record
        except UnrecordedError as error:
            raise RefusedError(503, str(error)) from None

    async def _addresses(self, wanted: Wanted, private: bool) -> tuple[str, ...]:
        host, port = wanted.host, wanted.port
        try:
            async with asyncio.timeout(self.bounds.connect):
                return await checked_addresses(host, port, self.resolve, private=private)
        except RefusedAddressError as error:
            raise RefusedError(
                403,
                f"{error}. To allow that, write the host's entry with the word private "
                f"in {self.setting}.",
            ) from None
        except (OSError, UnicodeError):  # a time-out is one of them
            raise RefusedError(502, f"The address of {host} could not be found.") from None

    async def _connect(
        self,
        wanted: Wanted,
        addresses: Sequence[str],
        record: Record,
        trust: ssl.SSLContext | None,
    ) -> SocketStream:
        where = f"{wanted.host}:{wanted.port}"
        try:
            async with asyncio.timeout(self.bounds.connect):
                for address in addresses[:-1]:
                    try:
                        return await self._connect_to(address, wanted, record, trust)
                    except OSError:
                        continue
                return await self._connect_to(addresses[-1], wanted, record, trust)
        except TimeoutError:
            raise RefusedError(504, f"{where} did not accept a connection in time.") from None
        except ssl.SSLCertVerificationError as error:
            why = f"The certificate of {where} is not trusted: {error.verify_message}."
            raise RefusedError(502, why) from None
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise RefusedError(502, f"{where} could not be connected to: {why}.") from None

    async def _connect_to(
        self, address: str, wanted: Wanted, record: Record, trust: ssl.SSLContext | None
    ) -> SocketStream:
        """Connect to an address that was checked, whatever its name leads to by now."""
        reader, writer = await asyncio.open_connection(
            address,
            wanted.port,
            ssl=trust,
            server_hostname=wanted.host if trust else None,
            limit=CHUNK,
        )
        record.connected(address)
        return SocketStream(reader, writer, self.bounds.idle)


def _attempted(wanted: Wanted, *, addresses: tuple[str, ...] = (), refused: str = "") -> Attempted:
    method, path = wanted.method[:_LONGEST_METHOD], wanted.path[:_LONGEST_PATH]
    return Attempted(wanted.host, wanted.port, method, path, addresses, refused)


class TooMuchError(OSError):
    """More has flowed over a connection than one may carry."""


async def splice(client: Stream, service: Stream, record: Record, bounds: Bounds) -> None:
    """Pass bytes on, both ways, until both are over. Raises ``OSError``."""

    async def copy(source: Stream, target: Stream, *, outward: bool) -> None:
        passed = 0
        while data := await source.read(bounds.idle):
            passed += len(data)
            if passed > bounds.most:
                raise TooMuchError(f"more than {bounds.most // MiB} MiB went over one connection")
            await (record.sends if outward else record.receives)(len(data))
            await target.write(data)
        await target.finish()

    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(copy(client, service, outward=True))
            both.create_task(copy(service, client, outward=False))
    except* OSError as group:
        raise OSError(str(_first(group))) from None


def _first(group: BaseExceptionGroup) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
