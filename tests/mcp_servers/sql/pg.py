"""A PostgreSQL server on loopback with every way to log in, and a gateway in front of it."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from corral.sandbox.network.postgres import PostgresGateway
from corral.sandbox.network.postgres_url import PostgresUrl
from corral.sandbox.network.streams import SocketStream
from corral.sandbox.network.traffic import Record, Unmetered
from tests.runtime.postgres_server import Server, running

PASSWORD = "correct horse/battery:staple@%"  # what a URL has to escape
ESCAPED = "correct%20horse%2Fbattery%3Astaple%40%25"

_RULES = """
local all all trust
hostssl all tlsonly all scram-sha-256
host all tlsonly all reject
host all clear all password
host all hashed all md5
host all trusted all trust
host all all all scram-sha-256
"""
_SETUP = f"""
CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}';
CREATE ROLE tlsonly LOGIN PASSWORD '{PASSWORD}';
CREATE ROLE clear LOGIN PASSWORD '{PASSWORD}';
CREATE ROLE trusted LOGIN;
CREATE ROLE writer LOGIN PASSWORD '{PASSWORD}';
CREATE ROLE programs LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_execute_server_program;
ALTER ROLE corral PASSWORD '{PASSWORD}';
SET password_encryption = 'md5';
CREATE ROLE hashed LOGIN PASSWORD '{PASSWORD}';
GRANT ALL ON SCHEMA public TO writer;
"""


@dataclass(frozen=True)
class Postgres:
    """A server that listens on loopback; ``root`` is the certificate that its own is signed by."""

    server: Server
    port: int
    root: Path

    def url(self, user: str = "reader", host: str = "localhost", **options: str) -> str:
        """A URL with the password of a role, to the database that ``run`` works in."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://{user}:{ESCAPED}@{host}:{self.port}/postgres?{query}"

    def run(self, sql: str, user: str = "corral") -> list[tuple[Any, ...]]:
        """Run statements as the server's owner, or as another role, without a password."""
        with self.connection(user) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def connection(self, user: str = "corral") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection past the gateway, by the socket in the server's folder."""
        folder = str(self.server.folder)
        return psycopg.connect(
            host=folder, port=self.port, user=user, dbname="postgres", autocommit=True
        )


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server while the body runs. Skips the test where PostgreSQL is not installed."""
    with running() as server, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        data = server.folder / "data"
        root = _certificates(data, server.folder)
        (data / "pg_hba.conf").write_text(_RULES)
        for name in ("server.key", "server.crt", "pg_hba.conf"):
            if server.user:
                shutil.chown(data / name, server.user)
        server.control("stop", "-m", "immediate")
        free.close()
        options = f"-k {server.folder} -p {port} -c listen_addresses=localhost -c ssl=on"
        options += " -c fsync=off -c shared_buffers=16MB"
        server.tool("pg_ctl", "start", "-w", "-D", "data", "-l", "log", "-o", options)
        found = Postgres(server, port, root)
        found.run(_SETUP)
        yield found


@asynccontextmanager
async def gateway(url: str, address: str = "") -> AsyncIterator[int]:
    """A gateway on a port of loopback, as the proxy would call it.

    ``address`` is what the URL's host was resolved to.
    """
    target = PostgresUrl.parse(url, "the test")
    handler = PostgresGateway(target)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = SocketStream(reader, writer, 10)
        upstream = SocketStream(
            *await asyncio.open_connection(address or target.host, target.port), 10
        )
        try:
            await handler(client, upstream, Record(Unmetered()))
        except (OSError, asyncio.CancelledError):
            pass  # as the proxy does: one of both went away
        finally:
            client.close()
            upstream.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def _certificates(data: Path, folder: Path) -> Path:
    """An authority, and a server's certificate for localhost and 127.0.0.1 signed by it."""
    authority, key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    root = _signed("corral test", authority.public_key(), authority, [])
    certificate = _signed("localhost", key.public_key(), authority, names)
    (folder / "root.crt").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    (data / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (data / "server.key").write_bytes(private)
    (data / "server.key").chmod(0o600)
    return folder / "root.crt"


def _signed(
    name: str,
    key: ec.EllipticCurvePublicKey,
    authority: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
) -> x509.Certificate:
    def called(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(called(name))
        .issuer_name(called("corral test"))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
    )
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return made.sign(authority, hashes.SHA256())
