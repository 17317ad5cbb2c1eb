"""The gateway to PostgreSQL: ways to log in, encryption, cancelling, and hostile servers."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from corral.sandbox.network.postgres_login import Login, LoginError
from corral.sandbox.network.postgres_messages import Messages, message
from corral.sandbox.network.postgres_url import PostgresUrl
from tests.mcp_servers.sql.pg import PASSWORD, Postgres, gateway, postgres

WHO = "SELECT current_user::text, (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())"
ALLOWED: list[tuple[str, dict[str, str], bool]] = [
    ("reader", {}, True),
    ("reader", {"sslmode": "disable"}, False),
    ("reader", {"sslmode": "require"}, True),
    ("reader", {"sslmode": "verify-full", "sslrootcert": "ROOT"}, True),
    ("reader", {"sslmode": "verify-ca", "sslrootcert": "ROOT"}, True),
    ("reader", {"sslmode": "require", "channel_binding": "require"}, True),
    ("reader", {"sslmode": "require", "channel_binding": "disable"}, True),
    ("clear", {}, True),
    ("clear", {"sslmode": "disable"}, False),  # on this machine
    ("hashed", {"sslmode": "disable"}, False),
    ("tlsonly", {}, True),
    ("trusted", {"sslmode": "disable"}, False),
]
REFUSED: list[tuple[str, dict[str, str], str]] = [
    ("reader", {"sslmode": "verify-full"}, "certificate"),
    ("reader", {"sslmode": "disable", "channel_binding": "require"}, "no channel binding"),
    ("clear", {"channel_binding": "require"}, "past channel binding"),
    ("hashed", {"channel_binding": "require"}, "past channel binding"),
    ("trusted", {"channel_binding": "require"}, "did not ask for channel binding"),
    ("tlsonly", {"sslmode": "disable"}, "pg_hba.conf rejects"),
    ("nobody", {}, "password authentication failed"),
]


@pytest.fixture(scope="module")
def pg() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


def connect(port: int, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
    given = {"user": "anybody", "dbname": "anything", "sslmode": "disable", **options}
    return psycopg.connect(host="127.0.0.1", port=port, **given)


def asked(port: int, sql: str = WHO, **options: Any) -> list[tuple[Any, ...]]:
    with connect(port, **options) as connection:
        return connection.execute(sql.encode()).fetchall()


def url_of(pg: Postgres, user: str, options: dict[str, str]) -> str:
    given = {name: value.replace("ROOT", str(pg.root)) for name, value in options.items()}
    return pg.url(user, **given)


@pytest.mark.parametrize(("user", "options", "encrypted"), ALLOWED)
async def test_it_logs_in(
    pg: Postgres, user: str, options: dict[str, str], encrypted: bool
) -> None:
    async with gateway(url_of(pg, user, options)) as port:
        assert await asyncio.to_thread(asked, port) == [(user, encrypted)]


@pytest.mark.parametrize(("user", "options", "why"), REFUSED)
async def test_it_does_not_log_in(
    pg: Postgres, user: str, options: dict[str, str], why: str
) -> None:
    async with gateway(url_of(pg, user, options)) as port:
        with pytest.raises(psycopg.OperationalError, match=why) as raised:
            await asyncio.to_thread(asked, port)
        assert PASSWORD not in str(raised.value)


async def test_a_certificate_for_another_name_is_refused(pg: Postgres) -> None:
    for mode, fits in (("verify-full", False), ("verify-ca", True)):
        url = pg.url(host="db.example.org", sslmode=mode, sslrootcert=str(pg.root))
        async with gateway(url, address="localhost") as port:
            if fits:
                assert await asyncio.to_thread(asked, port) == [("reader", True)]
                continue
            with pytest.raises(psycopg.OperationalError, match="Hostname mismatch"):
                await asyncio.to_thread(asked, port)


async def test_what_the_client_names_does_not_count(pg: Postgres) -> None:
    async with gateway(pg.url()) as port:
        named = {"user": "corral", "dbname": "template1", "password": "x"}
        options = {**named, "options": "-c search_path=pg_catalog", "sslmode": "prefer"}
        sql = "SELECT current_user::text, current_database()::text, current_setting('search_path')"
        found = await asyncio.to_thread(asked, port, sql, **options)
        assert found == [("reader", "postgres", '"$user", public')]


async def test_cancelling_goes_through(pg: Postgres) -> None:
    def cancelled(port: int) -> None:
        with connect(port, autocommit=True) as connection:
            threading.Thread(target=cancel, args=(connection, port)).start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("SELECT pg_sleep(60)")
            assert connection.execute("SELECT repeat('x', 5000000)").fetchone()

    def cancel(connection: psycopg.Connection[Any], port: int) -> None:
        busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
        while asked(port, busy) == [(0,)]:
            pass
        connection.cancel_safe()

    async with gateway(pg.url(sslmode="require")) as port:
        await asyncio.to_thread(cancelled, port)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def impostor(serve: Serve, **options: str) -> AsyncIterator[int]:
    """A gateway in front of a server that is none."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    query = "&".join(f"{name}={value}" for name, value in options.items())
    url = f"postgresql://u:canary-pw@127.0.0.1:{server.sockets[0].getsockname()[1]}/d?{query}"
    async with server, gateway(url) as port:
        yield port


@pytest.mark.parametrize(
    ("mode", "answer", "why"),
    [
        ("require", b"N", "offers no encryption"),
        ("require", b"SE", "offers no encryption"),  # bytes that would be taken for encrypted
        ("require", b"", "offers no encryption"),
        ("prefer", b"SE", "offers no encryption"),
        ("disable", message(b"R", struct.pack("!i", 7)), "not supported"),
        ("disable", message(b"R", struct.pack("!i", 11)), "order of a login"),
        ("disable", b"R\x7f\xff\xff\xff", "usable length"),
        ("disable", b"R\xff\xff\xff\xff", "usable length"),
        ("disable", message(b"D", b"x"), "something else"),
        ("disable", message(b"R", struct.pack("!i", 10) + b"GSS\0\0"), "no way to log in"),
        ("disable", message(b"N", b"x") * 50, "without end"),
        ("disable", message(b"E", b"C28000\0Mgo away\0\0"), "go away"),
    ],
)
async def test_hostile_servers_are_told(mode: str, answer: bytes, why: str) -> None:
    seen = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.read(1000))
        writer.write(answer)
        await writer.drain()

    async with impostor(serve, sslmode=mode) as port:
        with pytest.raises(psycopg.OperationalError, match=why):
            await asyncio.to_thread(asked, port)
    assert b"canary-pw" not in seen


class Scripted:
    """A server's side of a login, as data."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.sent = b""

    async def read(self, seconds: float) -> bytes:
        return self._answers.pop(0) if self._answers else b""

    async def write(self, data: bytes) -> None:
        self.sent += data

    async def finish(self) -> None: ...

    def close(self) -> None: ...


def asks(kind: int, data: bytes = b"") -> bytes:
    return message(b"R", struct.pack("!i", kind) + data)


@pytest.mark.parametrize("answers", [(asks(3), asks(0)), (asks(3) + asks(0),)])
async def test_the_password_is_never_sent_in_clear_over_the_network(
    answers: tuple[bytes, ...],
) -> None:
    url = PostgresUrl.parse("postgresql://u:canary-pw@db.example.org/d", "X")
    far, near = Scripted(*answers), Scripted(*answers)
    with pytest.raises(LoginError, match="without encryption"):
        await Login(url, None, near=False).run(far, Messages(far))
    assert far.sent == b""
    await Login(url, None, near=True).run(near, Messages(near))
    assert near.sent == message(b"p", b"canary-pw\0")


async def test_a_server_that_does_not_know_the_password_is_not_believed() -> None:
    url = PostgresUrl.parse("postgresql://u:canary-pw@db.example.org/d", "X")
    server = Scripted(asks(10, b"SCRAM-SHA-256\0\0"), asks(0))
    with pytest.raises(LoginError, match="did not prove"):
        await Login(url, None, near=True).run(server, Messages(server))
    server = Scripted(asks(10, b"SCRAM-SHA-256\0\0"), asks(11, b"r=x,s=QUJD,i=1"))
    with pytest.raises(LoginError, match="login failed"):
        await Login(url, None, near=True).run(server, Messages(server))
    assert b"canary-pw" not in server.sent
