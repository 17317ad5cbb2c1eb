"""The proxy in plain HTTP: what is let through, how it is written anew, and what is refused."""

from __future__ import annotations

import asyncio

import pytest

from corral.errors import ToolServerError
from corral.sandbox.network.rules import Network, NetworkRule
from corral.sandbox.network.ways import Bounds
from tests.sandbox.network.upstream import (
    OK,
    Log,
    Resolver,
    ask,
    connected,
    get,
    proxy,
    service,
)


def rule(port: int, **more: object) -> NetworkRule:
    return NetworkRule("service.test", (port,), private=True, **more)  # type: ignore[arg-type]  # as given


class TestWhatIsLetThrough:
    async def test_a_request_is_written_anew(self) -> None:
        async with service() as up, proxy(rule(up.port)) as gate:
            lines = ("Proxy-Authorization: x", "Connection: x-private", "X-Private: 1", "X-Kept: 2")
            answer = await ask(gate.socket, get(up.port, *lines, path="/a?b=c"))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nhello")
        head = up.heads[0].lower()
        assert head.startswith(f"get /a?b=c http/1.1\r\nhost: service.test:{up.port}\r\n")
        assert "x-kept: 2" in head
        assert "private" not in head
        assert "proxy-" not in head

    async def test_a_client_asks_several_times_on_one_connection(self) -> None:
        async with service() as up, proxy(rule(up.port)) as gate, connected(gate.socket) as client:
            for _ in range(3):
                await client.send(get(up.port).replace(b"Connection: close\r\n", b""))
                assert b"200" in await client.head()
                assert await client.exactly(5) == b"hello"
            assert up.connections == 3

    async def test_pipelined_requests_are_answered_in_order(self) -> None:
        async with service() as up, proxy(rule(up.port)) as gate:
            one = get(up.port, path="/1").replace(b"Connection: close\r\n", b"")
            answers = await ask(gate.socket, one + get(up.port, path="/2"))
        assert answers.count(b"hello") == 2
        assert [head.split()[1] for head in up.heads] == ["/1", "/2"]

    async def test_a_body_of_any_framing_arrives(self) -> None:
        bodies = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            chunked = b"transfer-encoding: chunked" in head
            bodies.append(await (reader.readuntil(b"0\r\n\r\n") if chunked else reader.read(4)))
            writer.write(OK)

        async with service(serve=serve) as up, proxy(rule(up.port)) as gate:
            post = get(up.port, "Content-Length: 4").replace(b"GET", b"POST")
            assert b"hello" in await ask(gate.socket, post + b"body")
            post = get(up.port, "Transfer-Encoding: chunked").replace(b"GET", b"POST")
            assert b"hello" in await ask(gate.socket, post + b"4\r\nbody\r\n0\r\n\r\n")
        assert bodies == [b"body", b"4\r\nbody\r\n0\r\n\r\n"]

    async def test_a_client_that_waits_is_told_to_go_on(self) -> None:
        async with service() as up, proxy(rule(up.port)) as gate, connected(gate.socket) as client:
            lines = ("Content-Length: 4", "Expect: 100-continue")
            await client.send(get(up.port, *lines).replace(b"GET", b"POST"))
            assert (await client.head()).startswith(b"HTTP/1.1 100 ")
            await client.send(b"body")
            assert b"200" in await client.head()
        assert "expect" not in up.heads[0].lower()

    async def test_a_tunnel_carries_bytes_that_nobody_reads(self) -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(100):
                writer.write(data[::-1])

        async with (
            service(serve=echo) as up,
            proxy(rule(up.port)) as gate,
            connected(gate.socket) as client,
        ):
            where = f"service.test:{up.port}"
            await client.send(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode())
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            await client.send(b"\0\1\2")
            assert await client.exactly(3) == b"\2\1\0"
            client.writer.write_eof()
            assert await client.rest() == b""

    async def test_a_websocket_goes_on_after_its_switch(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"upgrade: websocket" in head.lower()
            switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            writer.write(switch + b"Connection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nfirst")
            writer.write(await reader.readexactly(4))

        async with (
            service(serve=serve) as up,
            proxy(rule(up.port)) as gate,
            connected(gate.socket) as client,
        ):
            request = get(up.port, "Upgrade: websocket", "Sec-WebSocket-Key: x")
            await client.send(request.replace(b"Connection: close", b"Connection: Upgrade"))
            head = await client.head()
            assert head.startswith(b"HTTP/1.1 101 ")
            assert b"sec-websocket-accept: x" in head.lower()
            assert await client.exactly(5) == b"first"
            await client.send(b"ping")
            assert await client.exactly(4) == b"ping"

    async def test_each_connection_is_told_of(self) -> None:
        log = Log()
        async with service() as up, proxy(rule(up.port), watch=log) as gate:
            await ask(gate.socket, get(up.port, path="/a/b?secret=1"))
            await ask(gate.socket, get(1, host="other.test"))
        one, two = log.attempted
        assert (one.host, one.port, one.method, one.path) == (
            "service.test",
            up.port,
            "GET",
            "/a/b",
        )
        assert one.addresses == ("127.0.0.1",)
        assert (two.host, two.path) == ("other.test", "/")
        assert "may not be reached" in two.refused
        first, second = log.ended_
        assert (first.status, first.address) == (200, "127.0.0.1")
        assert first.received == 5
        assert first.sent > 50
        assert (second.sent, second.received, second.status) == (0, 0, None)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("request_", "status", "says"),
        [
            (b"GET / HTTP/1.1\r\nHost: service.test\r\n\r\n", 400, b"This is a proxy"),
            (b"GET ftp://service.test/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"This is a proxy"),
            (
                b"GET http://service.test:9/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
                400,
                b"Host header",
            ),
            (b"GET http://u:p@service.test:9/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"not usable"),
            (b"CONNECT service.test HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"host and a port"),
            (
                b"CONNECT service.test:22 HTTP/1.1\r\nHost: x\r\n\r\n",
                403,
                b'add "service.test:22" to',
            ),
            (
                b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
                403,
                b"network of [mcp.test]",
            ),
            (b"nonsense\r\n\r\n", 400, b"not understood"),
            (b"GET http://service.test:9/ HTTP/1.1\r\n\r\n", 400, b"not understood"),
            (
                b"GET http://service.test:9/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                400,
                b"not underst",
            ),
        ],
    )
    async def test_in_words(self, request_: bytes, status: int, says: bytes) -> None:
        async with proxy(rule(9)) as gate:
            answer = await ask(gate.socket, request_)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert says in answer.partition(b"\r\n\r\n")[2]
        assert b"Connection: close" in answer or b"connection: close" in answer

    @pytest.mark.parametrize(
        "lines",
        [
            ("Content-Length: 4", "Transfer-Encoding: chunked"),
            ("Content-Length: 4", "Content-Length: 5"),
            ("Transfer-Encoding: chunked, identity",),
            ("Transfer-Encoding: xchunked",),
            ("Content-Length: +4",),
            ("Transfer-Encoding : chunked",),
        ],
    )
    async def test_what_could_be_read_in_two_ways(self, lines: tuple[str, ...]) -> None:
        async with service() as up, proxy(rule(up.port)) as gate:
            smuggled = b"0\r\n\r\nGET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"
            request = get(up.port, *lines).replace(b"GET", b"POST")
            answer = await ask(gate.socket, request + smuggled)
        assert answer.split()[1] in (b"400", b"501")
        assert answer.count(b"HTTP/1.1") == 1
        assert up.heads == []

    async def test_a_method_that_the_rule_does_not_name(self) -> None:
        async with service() as up, proxy(rule(up.port, methods=("GET", "HEAD"))) as gate:
            assert b" 200 " in await ask(gate.socket, get(up.port))
            answer = await ask(gate.socket, get(up.port).replace(b"GET", b"DELETE"))
            assert b" 403 DELETE to service.test" in answer
            assert b"only GET, HEAD" in answer
            upgrade = get(up.port, "Upgrade: websocket")
            assert b"WebSocket" in await ask(gate.socket, upgrade)
        assert len(up.heads) == 1

    @pytest.mark.parametrize(
        "host", ["2130706433", "0x7f.0.0.1", "0177.0.0.1", "127.1", "127.0.0.1.", "[::1%25lo]"]
    )
    async def test_odd_spellings_of_addresses(self, host: str) -> None:
        everything = NetworkRule("*", (80, 443))
        async with proxy(everything) as gate:
            answer = await ask(gate.socket, get(80, host=host))
        assert answer.split()[1] in (b"400", b"403")
        assert b"not usable" in answer or b"not public" in answer

    @pytest.mark.parametrize(
        "address",
        [
            *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "0.0.0.0"),
            *("100.64.0.1", "169.254.169.254", "168.63.129.16", "224.0.0.1", "255.255.255.255"),
            *("::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1"),
            *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808"),
            *("2002:7f00:1::", "2001::1", "::7f00:1", "not an address"),
        ],
    )
    async def test_names_that_lead_into_the_own_network(self, address: str) -> None:
        log = Log()
        everything = NetworkRule("*", (80,))
        async with proxy(everything, resolve=Resolver([address]), watch=log) as gate:
            answer = await ask(gate.socket, get(80))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert address.encode() in answer
        assert b"private" in answer
        assert log.attempted[0].refused

    @pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254"])
    async def test_metadata_is_private_to_those_who_name_it(self, address: str) -> None:
        private = NetworkRule("*", (80,), private=True)
        async with proxy(private, resolve=Resolver([address])) as gate:
            answer = await ask(gate.socket, get(80))
        assert b"metadata" in answer

    async def test_a_resolver_that_changes_its_answer(self) -> None:
        resolver = Resolver(["127.0.0.1"], ["10.0.0.1"])
        async with service() as up, proxy(rule(up.port), resolve=resolver) as gate:
            answer = await ask(gate.socket, get(up.port))
        assert answer.endswith(b"hello")
        assert resolver.asked == ["service.test"], "looked up once, and connected to that"

    async def test_a_resolver_that_mixes_public_and_private(self) -> None:
        log = Log()
        resolver = Resolver(["10.0.0.1", "93.184.215.14"])
        public = NetworkRule("service.test", (9,))
        async with proxy(public, resolve=resolver, watch=log) as gate:
            await ask(gate.socket, get(9))
        assert log.attempted[0].addresses == ("93.184.215.14",)

    async def test_a_watch_that_cannot_record_keeps_it_closed(self) -> None:
        async def broken(_attempted: object) -> Log:
            raise RuntimeError("the disk is full")

        async with service() as up, proxy(rule(up.port), watch=broken) as gate:
            assert await ask(gate.socket, get(up.port)) == b""
        assert up.connections == 0

    async def test_a_connection_that_may_not_be_recorded_is_refused_in_words(self) -> None:
        async def full(_attempted: object) -> Log:
            raise ToolServerError("A call has made too many connections.")

        async with service() as up, proxy(rule(up.port), watch=full) as gate:
            for port in (up.port, 1):
                answer = await ask(gate.socket, get(port))
                assert answer.startswith(b"HTTP/1.1 503 A call has made too many connections.")
        assert up.connections == 0

    async def test_a_name_that_leads_nowhere_is_recorded(self) -> None:
        async def unknown(_host: str, _port: int) -> list[str]:
            raise OSError("no such host")

        log = Log()
        async with proxy(rule(9), resolve=unknown, watch=log) as gate:
            assert b" 502 The address of service.test" in await ask(gate.socket, get(9))
        assert "could not be found" in log.attempted[0].refused


class TestHostileSides:
    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
            b"garbage" * 100_000,
            b"HTTP/1.1 99 Odd\r\n\r\n",
            b"",
        ],
    )
    async def test_a_service_that_breaks_the_protocol(self, answer: bytes) -> None:
        async with service(answer) as up, proxy(rule(up.port)) as gate:
            got = await ask(gate.socket, get(up.port))
        assert got.startswith(b"HTTP/1.1 502 ")

    async def test_a_service_that_is_cut_in_the_middle(self) -> None:
        cut = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello"
        async with service(cut) as up, proxy(rule(up.port)) as gate:
            answer = await ask(gate.socket, get(up.port))
        assert answer.endswith(b"hello")
        assert b"content-length: 500" in answer.lower(), "so the client sees that some is missing"

    async def test_a_service_that_never_answers(self) -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            del writer
            await reader.read(-1)

        bounds = Bounds(answer=0.05)
        async with service(serve=silent) as up, proxy(rule(up.port), bounds=bounds) as gate:
            answer = await ask(gate.socket, get(up.port))
        assert answer.startswith(b"HTTP/1.1 504 ")

    async def test_an_endless_answer(self) -> None:
        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(b"x" * 10_000)
                await writer.drain()

        bounds = Bounds(most=100_000)
        async with service(serve=endless) as up, proxy(rule(up.port), bounds=bounds) as gate:
            answer = await ask(gate.socket, get(up.port))
        assert 0 < len(answer) < 200_000

    async def test_a_client_that_is_endless_or_slow(self) -> None:
        bounds = Bounds(head_seconds=0.05)
        async with service() as up, proxy(rule(up.port), bounds=bounds) as gate:
            async with connected(gate.socket) as slow:
                await slow.send(b"GET http://service.test")
                assert await slow.rest() == b""
            request = get(up.port, *(f"X-{n}: {'y' * 100}" for n in range(2000)))
            assert (await ask(gate.socket, request)).split()[1] in (b"400", b"431")
        assert up.heads == []

    async def test_more_clients_than_there_is_room_for(self) -> None:
        async with (
            service() as up,
            proxy(rule(up.port), bounds=Bounds(clients=1)) as gate,
            connected(gate.socket) as first,
        ):
            await first.send(get(up.port)[:10])
            assert await ask(gate.socket, get(up.port)) == b""
            await first.send(get(up.port)[10:])
            assert (await first.rest()).endswith(b"hello")


class TestTheProxyItself:
    async def test_its_folder_is_private_and_goes_with_it(self) -> None:
        async with proxy(rule(9)) as gate:
            folder = gate.socket.parent
            assert folder.stat().st_mode & 0o777 == 0o700
            assert gate.socket.stat().st_mode & 0o777 == 0o600
        assert not folder.exists()

    async def test_the_most_exact_rule_decides(self) -> None:
        network = Network(
            (
                NetworkRule("*", (443,)),
                NetworkRule("*.a.test", (443,), ("GET",)),
                NetworkRule("x.a.test", (443,), ("PUT",)),
            )
        )
        assert network.rules_for("x.a.test", 443)[0].methods == ("PUT",)
        assert network.rules_for("y.a.test", 443)[0].methods == ("GET",)
        assert network.rules_for("a.test", 443)[0].methods == ()
        assert network.rules_for("a.test", 80) == ()
