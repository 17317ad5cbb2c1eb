"""The gateway to a PostgreSQL server: it logs in on the host, so the password never enters.

The sandbox's client is asked for nothing and is given a connection to the one database of the URL.
What it names as user, database or settings does not count. After the login bytes go both ways
unread; a request to cancel goes the same way as a login.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from contextlib import suppress

from corral.sandbox.network.postgres_login import Login, LoginError
from corral.sandbox.network.postgres_messages import (
    CANCEL,
    SECONDS,
    SSL,
    VERSION,
    Messages,
    Startup,
    accepted,
    greeting,
    message,
    refusal,
)
from corral.sandbox.network.postgres_url import PostgresUrl
from corral.sandbox.network.streams import SocketStream, Stream, TlsStream
from corral.sandbox.network.traffic import Record

_UNREACHABLE = "08006"  # connection_failure


class PostgresGateway:
    """A ``Handler`` for the forward that leads to the server of ``url``."""

    def __init__(self, url: PostgresUrl) -> None:
        self._url = url
        self._context: ssl.SSLContext | None = None

    async def __call__(self, client: SocketStream, service: SocketStream, record: Record) -> None:
        """Serve one connection to its end. Raises ``OSError``."""
        asked = Messages(client)
        startup = await asked.startup()
        if startup.code == CANCEL:
            await self._cancel(startup, service)
        elif startup.code >> 16 != VERSION >> 16:
            await client.write(refusal("08P01", "This version of the protocol is not spoken."))
        else:
            await self._connect(startup, client, asked, service, record)

    async def _connect(
        self,
        startup: Startup,
        client: SocketStream,
        asked: Messages,
        service: SocketStream,
        record: Record,
    ) -> None:
        from corral.sandbox.network.ways import Bounds, splice

        try:
            server, answers = await self._logged_in(service)
        except (LoginError, OSError) as error:
            code = error.code if isinstance(error, LoginError) else _UNREACHABLE
            record.failed(str(error))
            await client.write(refusal(code, str(error) or type(error).__name__))
            return
        await client.write(accepted(startup) + answers.rest)
        if asked.rest:
            await server.write(asked.rest)
        await splice(client, server, record, Bounds())

    async def _logged_in(self, service: SocketStream) -> tuple[Stream, Messages]:
        server = await self._secured(service)
        tls = server.tls if isinstance(server, TlsStream) else None
        await server.write(greeting(_parameters(self._url)))
        answers = Messages(server)
        await Login(self._url, tls, near=_is_near(service)).run(server, answers)
        return server, answers

    async def _cancel(self, startup: Startup, service: SocketStream) -> None:
        server = await self._secured(service)
        await server.write(startup.whole)
        await server.read(SECONDS)  # the server answers nothing and closes

    async def _secured(self, service: SocketStream) -> Stream:
        """The connection, encrypted as the URL's sslmode says. Raises ``OSError``."""
        mode = self._url.mode
        if mode == "disable":
            return service
        await service.write(message(b"", SSL.to_bytes(4, "big")))
        answer = await service.read(SECONDS)
        if answer == b"N" and mode == "prefer":
            return service
        # More than the one byte was put there by somebody between, to be taken for encrypted.
        if answer != b"S":
            raise OSError(f"The server offers no encryption, which sslmode={mode} requires.")
        self._context = self._context or self._url.tls()
        secured = TlsStream(service, self._context, server=self._url.host)
        try:
            await secured.handshake(b"", SECONDS)
        except ssl.SSLCertVerificationError as error:
            raise OSError(f"The server's certificate: {error.verify_message}.") from error
        return secured


def _parameters(url: PostgresUrl) -> Mapping[str, str]:
    return {
        "user": url.user,
        "database": url.database,
        "client_encoding": "UTF8",
        "application_name": "corral",
        **url.settings,
    }


def _is_near(service: SocketStream) -> bool:
    """Whether the server is on this machine."""
    with suppress(ValueError, TypeError, IndexError):
        return ipaddress.ip_address(service.writer.get_extra_info("peername")[0]).is_loopback
    return False
