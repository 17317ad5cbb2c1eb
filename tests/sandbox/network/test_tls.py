"""https through the proxy: read where a rule needs it, and secrets that never come inside."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from corral.sandbox.network.inside import CERTIFICATES
from corral.sandbox.network.rules import NetworkRule
from tests.sandbox.network.upstream import (
    Log,
    Resolver,
    Trust,
    ask,
    get,
    proxy,
    service,
)

SECRET = "Bearer sk-canary-0123456789"
HOST = "api.test"


def rule(port: int, **more: object) -> NetworkRule:
    return NetworkRule(HOST, (port,), private=True, **more)  # type: ignore[arg-type]  # as given


@pytest.fixture(scope="module")
def trust() -> Trust:
    return Trust()


async def ask_in_tunnel(socket: Path, port: int, request: bytes, host: str = HOST) -> bytes:
    """What is answered to a request over https, by whoever the sandbox is told to trust."""
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        where = f"{host}:{port}"
        writer.write(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head:
            return head
        context = ssl.create_default_context(cafile=str(socket.parent / CERTIFICATES))
        await writer.start_tls(context, server_hostname=host)
        writer.write(request)
        async with asyncio.timeout(10):
            return await reader.read(-1)
    finally:
        writer.close()


def inner(*lines: str, method: str = "GET", path: str = "/", port: int) -> bytes:
    head = [f"{method} {path} HTTP/1.1", f"Host: {HOST}:{port}", *lines, "Connection: close"]
    return "\r\n".join([*head, "", ""]).encode()


async def test_methods_hold_inside_of_https(trust: Trust) -> None:
    log = Log()
    async with (
        service(tls=trust.server(HOST)) as up,
        proxy(rule(up.port, methods=("GET",)), trust=trust.client(), watch=log) as gate,
    ):
        answer = await ask_in_tunnel(gate.socket, up.port, inner(path="/a?q=1", port=up.port))
        assert answer.endswith(b"hello")
        answer = await ask_in_tunnel(gate.socket, up.port, inner(method="POST", port=up.port))
        assert b" 403 " in answer
        assert b"only GET" in answer
    assert [(one.method, one.path, bool(one.refused)) for one in log.attempted] == [
        ("GET", "/a", False),
        ("POST", "/", True),
    ]
    assert len(up.heads) == 1


async def test_another_host_inside_of_the_tunnel_is_refused(trust: Trust) -> None:
    async with (
        service(tls=trust.server(HOST)) as up,
        proxy(rule(up.port, methods=("GET",)), trust=trust.client()) as gate,
    ):
        fronted = inner(port=up.port).replace(HOST.encode(), b"evil.test")
        answer = await ask_in_tunnel(gate.socket, up.port, fronted)
    assert b" 400 " in answer
    assert up.heads == []


async def test_a_certificate_that_nobody_vouches_for(trust: Trust) -> None:
    async with (
        service(tls=trust.server("other.test")) as up,
        proxy(rule(up.port, methods=("GET",)), trust=trust.client()) as gate,
    ):
        answer = await ask_in_tunnel(gate.socket, up.port, inner(port=up.port))
        assert b" 502 The certificate of api.test" in answer
    async with (
        service(tls=trust.server(HOST)) as up,
        proxy(rule(up.port, methods=("GET",))) as gate,
    ):
        answer = await ask_in_tunnel(gate.socket, up.port, inner(port=up.port))
        assert b" 502 The certificate of api.test" in answer


async def test_a_secret_is_added_outside_and_masked_on_its_way_back(trust: Trust) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.decode())
        body = f"you sent {SECRET} and {SECRET.split()[1]} sk-can".encode()
        start = f"HTTP/1.1 200 {SECRET}\r\nX-Echo: got {SECRET}\r\nContent-Length: {len(body)}"
        writer.write(start.encode() + b"\r\n\r\n")
        for byte in body:
            writer.write(bytes([byte]))
            await writer.drain()

    seen: list[str] = []
    async with (
        service(serve=echo, tls=trust.server(HOST)) as up,
        proxy(rule(up.port, inject={"Authorization": SECRET}), trust=trust.client()) as gate,
    ):
        mine = inner("authorization: mine", "Accept-Encoding: gzip", port=up.port)
        answer = await ask_in_tunnel(gate.socket, up.port, mine)
        files = b"".join(one.read_bytes() for one in gate.socket.parent.iterdir() if one.is_file())
    assert f"Authorization: {SECRET}".lower() in seen[0].lower()
    assert "mine" not in seen[0]
    assert "gzip" not in seen[0]
    assert b"canary" not in answer
    assert b"x-echo: got ***" in answer.lower()
    head, _, body = answer.partition(b"\r\n\r\n")
    masked = "*" * len(SECRET), "*" * len(SECRET.split()[1])
    assert body == f"you sent {masked[0]} and {masked[1]} sk-can".encode()
    assert f"content-length: {len(body)}".encode() in head.lower()
    assert b"canary" not in files


async def test_a_secret_goes_to_its_host_alone(trust: Trust) -> None:
    async with (
        service(tls=trust.server("api.test")) as up,
        service(b"HTTP/1.1 302 Found\r\nLocation: http://api.test/\r\n\r\n") as other,
    ):
        rules = (
            NetworkRule(HOST, (up.port, other.port), inject={"X-Api-Key": SECRET}),
            NetworkRule("*", (up.port, other.port), private=True),
        )
        resolver = Resolver(["127.0.0.1"])
        async with proxy(*rules, trust=trust.client(), resolve=resolver) as gate:
            plain = await ask(gate.socket, get(other.port, host=HOST))
            assert b" 403 " in plain
            assert b"over https only" in plain
            assert b" 302 " in await ask(gate.socket, get(other.port, host="other.test"))
            assert b" 302 " in await ask(gate.socket, get(other.port, host="api.test.evil.test"))
    assert all("key" not in head.lower() for head in other.heads)
    assert up.heads == []


async def test_names_that_servers_take_for_the_same_are_taken_out(trust: Trust) -> None:
    async with (
        service(tls=trust.server(HOST)) as up,
        proxy(rule(up.port, inject={"X-Api-Key": "secret-key"}), trust=trust.client()) as gate,
    ):
        await ask_in_tunnel(gate.socket, up.port, inner("X_API_KEY: mine", port=up.port))
    assert "mine" not in up.heads[0]
    assert "secret-key" in up.heads[0]


@pytest.mark.slow
async def test_bytes_that_come_before_they_are_asked_for(trust: Trust) -> None:
    """A client need not wait for the tunnel: what it sends ahead is read all the same."""
    async with (
        service(tls=trust.server(HOST)) as up,
        proxy(rule(up.port, methods=("GET",)), trust=trust.client()) as gate,
    ):
        where = f"{HOST}:{up.port}"
        connect = f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode()
        answer = await ask(gate.socket, connect + inner(port=up.port))
        assert b"hello" not in answer, "plain HTTP to a port where the service speaks TLS"
        answer = await ask(gate.socket, connect + b"\x16\x03\x01 no TLS at all")
        assert answer.startswith(b"HTTP/1.1 200 ")
