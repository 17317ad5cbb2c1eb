"""One client on a stream: frames, cancellation, disconnection, floods."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.mcp_servers.serving.layer import Layer
from corral.mcp_servers.wire import MAX_LINE, Frames, Oversized
from tests.mcp_servers.serving.service import (
    KEY,
    GatedService,
    connected,
    connected_to,
    envelope,
)
from tests.tools.support import until


class TestFrames:
    @pytest.mark.parametrize(
        ("line", "code"),
        [
            (b"{not json", -32700),
            (b"\xff\xfe\x00", -32700),
            (b"[1, 2]", -32600),
            (b'"text"', -32600),
            (b'{"jsonrpc": "2.0", "id": 7}', -32600),
            (b'{"jsonrpc": "1.0", "id": 7, "method": "ping"}', -32600),
            (b'{"id": {}, "jsonrpc": "2.0", "method": "ping"}', -32600),
            (b"[" * 100_000, -32700),
        ],
    )
    async def test_what_is_no_message_is_answered_and_the_next_one_served(
        self, line: bytes, code: int
    ) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            await client.write(line + b"\n")
            answer = await client.receive()
            assert answer["error"]["code"] == code
            assert "result" in await client.call("add", arguments={"left": 1, "right": 2})

    async def test_a_line_that_is_too_long_is_answered_by_its_id(self) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            head = b'{"jsonrpc": "2.0", "id": 77, "method": "tools/call", "params": {"x": "'
            await client.write(head)
            for _ in range(MAX_LINE // (1 << 20) + 1):
                await client.write(b"x" * (1 << 20))
            await client.write(b'"}}\n')
            answer = await client.receive()
            assert answer["id"] == 77
            assert "longer than" in answer["error"]["message"]
            assert "result" in await client.call("add", arguments={"left": 1, "right": 2})

    @given(st.lists(st.binary(max_size=40)), st.lists(st.integers(0, 2_000), max_size=20))
    def test_lines_are_the_same_however_they_are_cut(
        self, lines: list[bytes], cuts: list[int]
    ) -> None:
        lines = [line.replace(b"\n", b"") for line in lines]
        whole = b"".join(line + b"\n" for line in lines)
        frames, start = Frames(), 0
        found: list[bytes | Oversized] = []
        for end in [*sorted(min(cut, len(whole)) for cut in cuts), len(whole)]:
            found += frames.feed(whole[start:end])
            start = end
        assert found == lines

    async def test_empty_lines_are_let_go(self) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            await client.write(b"\n\r\n  \n")
            assert "result" in await client.call("add", arguments={"left": 1, "right": 2})

    async def test_a_frame_may_come_in_pieces(self) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            message = {
                "jsonrpc": "2.0",
                "id": "é-1",
                "method": "tools/list",
                "params": {"_meta": envelope()},
            }
            for byte in json.dumps(message, ensure_ascii=False).encode() + b"\n":
                await client.write(bytes([byte]))
            assert (await client.receive())["id"] == "é-1"


async def begin_waiting(client: Any, service: GatedService) -> int:
    number: int = await client.send("tools/call", name="wait", arguments={})
    await service.began.wait()
    return number


@pytest.mark.parametrize("modern", [True, False])
class TestCancellation:
    async def test_a_cancelled_call_stops(self, modern: bool) -> None:
        service = GatedService()
        async with connected(service, meta=envelope() if modern else None) as client:
            if not modern:
                await client.handshake()
            number = await begin_waiting(client, service)
            await client.notify("notifications/cancelled", requestId=number)
            await until(lambda: bool(service.waiting[0].ended))
            assert service.waiting[0].ended == "cancelled"
            assert service.waiting[0].exchange.cancelled
            assert "result" in await client.call("add", arguments={"left": 1, "right": 2})

    async def test_a_call_goes_on_when_its_client_goes(self, modern: bool) -> None:
        service = GatedService()
        async with connected(service, meta=envelope() if modern else None) as client:
            if not modern:
                await client.handshake()
            await begin_waiting(client, service)
            await client.leave()
        waiting = service.waiting[0]
        assert not waiting.ended
        assert not waiting.exchange.cancelled
        await waiting.exchange.progress(1, 2, "to nobody")
        waiting.go_on.set()
        await until(lambda: waiting.ended == "finished")

    async def test_another_clients_request_is_not_cancelled(self, modern: bool) -> None:
        service = GatedService()
        layer = Layer(service, KEY)
        meta = envelope() if modern else {}
        async with connected_to(layer, meta) as one, connected_to(layer, meta) as other:
            for client in (one, other) if not modern else ():
                await client.handshake()
            number = await begin_waiting(one, service)
            if modern:
                await other.call("add", arguments={"left": 1, "right": 2})
            await other.notify("notifications/cancelled", requestId=number)
            assert "result" in await other.call("add", arguments={"left": 1, "right": 2})
            assert not service.waiting[0].ended
            service.waiting[0].go_on.set()
            assert (await one.receive())["id"] == number


class TestFloods:
    async def test_too_many_calls_at_once_are_refused_and_the_others_served(self) -> None:
        service = GatedService()
        async with connected(service, meta=envelope(), calls=3) as client:
            for _ in range(5):
                await client.send("tools/call", name="wait", arguments={})
            refused = [await client.receive() for _ in range(2)]
            assert all("under way" in one["error"]["message"] for one in refused)
            for waiting in service.waiting:
                waiting.go_on.set()
            assert len(service.waiting) == 3
            assert all(["result" in await client.receive() for _ in range(3)])

    @pytest.mark.slow
    async def test_a_client_that_does_not_read_is_not_read_from(self) -> None:
        service = GatedService()
        async with connected(service, meta=envelope(), calls=10_000) as client:
            message = {
                "jsonrpc": "2.0",
                "method": "tools/call",
                "params": {"name": "big", "arguments": {}, "_meta": envelope()},
            }
            sending = asyncio.create_task(self.flood(client, message, 3_000))
            await until(lambda: len(service.callers) > 50)
            await asyncio.sleep(0)
            seen = -1
            while seen != len(service.callers):  # until it stands still
                seen = len(service.callers)
                await asyncio.sleep(0.1)
            assert not sending.done()
            assert seen < 2_000
            sending.cancel()

    async def flood(self, client: Any, message: dict[str, Any], times: int) -> None:
        for number in range(times):
            await client.write(json.dumps({**message, "id": number}).encode() + b"\n")


class TestTheOtherEra:
    async def test_a_handshake_is_answered_with_what_there_is(self) -> None:
        async with connected(GatedService()) as client:
            answer = (await client.handshake())["result"]
        assert answer["protocolVersion"] == "2025-11-25"
        assert answer["serverInfo"]["name"] == "gated"
        assert answer["instructions"] == "Call a tool."
        assert answer["capabilities"]["tools"] == {"listChanged": True}
        assert "extensions" not in answer["capabilities"]

    async def test_changed_tools_are_told_to_both(self) -> None:
        layer = Layer(GatedService(), KEY)
        async with connected_to(layer, {}) as old, connected_to(layer, envelope()) as new:
            await old.handshake()
            await old.ask("ping")
            await new.send("subscriptions/listen", notifications={"toolsListChanged": True})
            assert (await new.receive())["method"].endswith("acknowledged")
            await layer.changed("tools")
            for client in (old, new):
                told = await client.receive()
                assert told["method"] == "notifications/tools/list_changed"
            await layer.changed("prompts")  # which the new one has not asked for
            assert (await old.receive())["method"] == "notifications/prompts/list_changed"
            assert "result" in await new.call("add", arguments={"left": 1, "right": 2})
