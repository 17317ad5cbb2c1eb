"""By HTTP: who comes in, sessions, limits, and clients that mean no good."""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from corral.errors import ConfigError
from corral.mcp_servers.serving import http, limits
from corral.mcp_servers.serving.announcing import announced, running
from corral.mcp_servers.serving.http import PATH, planned
from corral.mcp_servers.serving.security import is_loopback, local_token, shared_key
from corral.runtime.serve_settings import ServeSettings
from tests.mcp_servers.serving.service import LOG, SECRET, GatedService, connected, envelope
from tests.mcp_servers.serving.web import result, site
from tests.tools.support import until

ADD: dict[str, Any] = {"name": "add", "arguments": {"left": 1, "right": 2}}


def said(answer: httpx2.Response) -> str:
    text: str = result(answer)["result"]["content"][0]["text"]
    return text


class TestTheToken:
    async def test_who_has_it_is_served_in_both_eras(self, tmp_path: Path) -> None:
        async with site(tmp_path) as here:
            assert said(await here.modern("tools/call", **ADD)) == "3"
            session = await here.handshake(client="older")
            assert said(await here.legacy(session, "tools/call", **ADD)) == "3"
            assert [one.owner for one in here.service.callers] == ["local:mine", "local:older"]

    @pytest.mark.parametrize("token", ["x", "Bearer", "a" * 43])
    async def test_who_has_not_is_refused(self, tmp_path: Path, token: str) -> None:
        async with site(tmp_path) as here:
            head = here.headers(token)
            for method in ("POST", "GET", "DELETE"):
                answer = await here.client.request(method, here.plan.url, headers=head)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"].startswith("Bearer error=")
                assert here.token not in answer.text
            head.pop("Authorization")
            assert (await here.client.post(here.plan.url, headers=head)).status_code == 401
            in_the_address = f"{here.plan.url}?access_token={here.token}"
            assert (await here.client.post(in_the_address, headers=head)).status_code == 401
            assert not here.service.callers

    async def test_it_is_another_one_each_time_and_never_shown(self, tmp_path: Path) -> None:
        one, two = local_token(None), local_token(None)
        assert one != two
        assert one.secret not in repr(one)
        assert await one.verify_token("é") is None
        found = await one.verify_token(one.secret)
        assert found is not None
        assert one.secret not in repr(found)

    def test_it_can_come_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_TOKEN", "x" * 32)
        assert local_token("MY_TOKEN").secret == "x" * 32
        monkeypatch.setenv("MY_TOKEN", "short")
        with pytest.raises(ConfigError, match="MY_TOKEN holds no token"):
            local_token("MY_TOKEN")

    def test_it_is_there_for_its_owner_as_long_as_the_server_runs(self, tmp_path: Path) -> None:
        plan, listener = planned(tmp_path, ServeSettings(), "127.0.0.1", 0)
        listener.close()
        with announced(tmp_path, plan.listening("agents", os.getpid())) as path:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            [found] = running(tmp_path)
            assert found.url == plan.url
        assert not running(tmp_path)

    def test_the_key_is_made_once(self, tmp_path: Path) -> None:
        assert shared_key(tmp_path) == shared_key(tmp_path)
        assert len(shared_key(tmp_path)) == 32


async def test_the_person_at_this_machine_reads_where_to_look(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        assert str(LOG) in said(await here.modern("tools/call", name="lose", arguments={}))
        failed = await here.modern("tools/call", name="fail", arguments={})
        assert f"There is no model {LOG.parent}/m.gguf." in said(failed)
    async with connected(GatedService(), meta=envelope()) as client:
        assert str(LOG) in str(await client.call("lose", arguments={}))


class TestNames:
    """DNS rebinding: a page that has its own name lead to loopback."""

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "[::1", ""]
    )
    async def test_another_host_is_refused_whatever_else_is_right(
        self, tmp_path: Path, host: str
    ) -> None:
        async with site(tmp_path) as here:
            head = here.headers(Host=host.format(port=here.plan.port))
            for path in (PATH, "/", "/.well-known/oauth-protected-resource/mcp"):
                url = here.plan.url.replace(PATH, path)
                assert (await here.client.post(url, headers=head)).status_code in (400, 421)

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000"])
    async def test_no_page_may_call_by_default(self, tmp_path: Path, origin: str) -> None:
        async with site(tmp_path) as here:
            answer = await here.client.post(here.plan.url, headers=here.headers(Origin=origin))
            assert answer.status_code == 403
            asking = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            answer = await here.client.options(here.plan.url, headers=asking)
            assert answer.status_code == 403

    async def test_a_listed_page_may(self, tmp_path: Path) -> None:
        settings = ServeSettings(origins=("https://inspector.example",))
        async with site(tmp_path, settings) as here:
            asking = {
                "Origin": "https://inspector.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            }
            answer = await here.client.options(here.plan.url, headers=asking)
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == "https://inspector.example"

    async def test_other_binds_are_checked_as_well(self, tmp_path: Path) -> None:
        settings = ServeSettings.model_validate(
            {
                "oauth": {
                    "issuer": "https://issuer.example",
                    "audience": "https://mcp.example/mcp",
                },
                "hosts": ["inside.example"],
            }
        )
        async with site(tmp_path, settings, host="0.0.0.0") as here:
            url = f"http://127.0.0.1:{here.plan.port}{PATH}"
            for host, status in (
                ("evil.example", 421),
                ("127.0.0.1", 421),
                ("mcp.example", 401),
                ("inside.example", 401),
                (f"inside.example:{here.plan.port}", 401),
            ):
                answer = await here.client.post(url, headers={"Host": host})
                assert answer.status_code == status, host

    def test_what_others_can_reach_needs_an_authorization_server(self, tmp_path: Path) -> None:
        for host in ("0.0.0.0", "::", "192.168.1.2", "example.com"):
            with pytest.raises(ConfigError, match="is not loopback"):
                planned(tmp_path, ServeSettings(), host, 0)

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
    def test_loopback(self, host: str) -> None:
        assert is_loopback(host)

    async def test_a_port_that_is_taken_is_told(self, tmp_path: Path) -> None:
        async with site(tmp_path) as here:
            with pytest.raises(ConfigError, match="cannot be used"):
                planned(tmp_path, ServeSettings(), "127.0.0.1", here.plan.port)


@pytest.mark.parametrize("stateless", [False, True])
class TestSessions:
    async def test_one_that_there_is_not_must_begin_anew(
        self, tmp_path: Path, stateless: bool
    ) -> None:
        async with site(tmp_path, stateless=stateless) as here:
            for session in ("made-up", "v1.AAAA", "0" * 32):
                answer = await here.legacy(session, "tools/list")
                assert answer.status_code == 404

    async def test_its_id_is_no_token(self, tmp_path: Path, stateless: bool) -> None:
        async with site(tmp_path, stateless=stateless) as here:
            session = await here.handshake()
            assert (await here.legacy(session, "tools/list", "wrong")).status_code == 401

    async def test_the_client_keeps_its_name(self, tmp_path: Path, stateless: bool) -> None:
        async with site(tmp_path, stateless=stateless) as here:
            session = await here.handshake(client="claude-ai")
            await here.legacy(session, "tools/call", **ADD)
            assert here.service.callers[0].owner == "local:claude-ai"
            assert here.service.callers[0].version == "1"


async def test_a_session_without_a_memory_outlives_its_worker(tmp_path: Path) -> None:
    async with site(tmp_path, stateless=True) as here:
        session = await here.handshake(client="claude-ai")
    async with site(tmp_path, stateless=True) as here:
        assert said(await here.legacy(session, "tools/call", **ADD)) == "3"
        assert here.service.callers[0].client == "claude-ai"


class TestShares:
    """What one caller has open leaves the others room."""

    @pytest.fixture(autouse=True)
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http, "_MOST_SESSIONS_OF_ONE", 2)

    def hello(self, client: str, **more: Any) -> dict[str, Any]:
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": client, "version": "1"},
            **more,
        }
        return {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}

    async def test_the_sessions_of_one_leave_the_others_theirs(self, tmp_path: Path) -> None:
        async with site(tmp_path) as here:
            first, _ = [await here.handshake(client="greedy") for _ in range(2)]
            refused = await here.post(self.hello("greedy"), here.headers())
            assert refused.status_code == 429
            assert "2 sessions open" in refused.json()["error"]["message"]
            await here.handshake(client="modest")
            assert said(await here.legacy(first, "tools/call", **ADD)) == "3"
            ended = here.headers(mcp_session_id=first)
            assert (await here.client.delete(here.plan.url, headers=ended)).status_code == 200
            await here.handshake(client="greedy")

    async def test_a_long_handshake_counts_like_any_other(self, tmp_path: Path) -> None:
        async with site(tmp_path) as here:
            long = self.hello("greedy", _meta={"x": "y" * 100_000})
            answers = [await here.post(long, here.headers()) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]

    async def test_only_what_was_opened_counts(self, tmp_path: Path) -> None:
        async with site(tmp_path) as here:
            listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            statuses = [(await here.post(listing, here.headers())).status_code for _ in range(4)]
            broken = b'{"method": "initialize", ' + b"[" * 50_000
            head = here.headers(content_type="application/json")
            for _ in range(4):
                answer = await here.client.post(here.plan.url, content=broken, headers=head)
                statuses.append(answer.status_code)
            await here.handshake()
        assert statuses == [400] * 8


class TestCancellation:
    async def begin(self, here: Any, sending: Any) -> asyncio.Task[Any]:
        calling = asyncio.create_task(sending)
        await until(lambda: bool(here.service.waiting))
        return calling

    async def drop(self, calling: asyncio.Task[Any]) -> None:
        calling.cancel()
        with suppress(asyncio.CancelledError):
            await calling

    async def test_a_stream_that_closes_cancels_in_the_modern_era(self, tmp_path: Path) -> None:
        async with site(tmp_path) as here:
            calling = await self.begin(here, here.modern("tools/call", name="wait", arguments={}))
            await self.drop(calling)
            await until(lambda: bool(here.service.waiting[0].ended))
            assert here.service.waiting[0].ended == "cancelled"
            assert here.service.waiting[0].exchange.cancelled

    @pytest.mark.slow
    @pytest.mark.parametrize("stateless", [False, True])
    async def test_and_does_not_before(self, tmp_path: Path, stateless: bool) -> None:
        async with site(tmp_path, stateless=stateless) as here:
            session = await here.handshake()
            sending = here.legacy(session, "tools/call", name="wait", arguments={})
            await self.drop(await self.begin(here, sending))
            assert said(await here.legacy(session, "tools/call", **ADD)) == "3"
            waiting = here.service.waiting[0]
            assert not waiting.ended
            waiting.go_on.set()
            await until(lambda: waiting.ended == "finished")

    async def test_a_notification_cancels_its_own_sessions_call(self, tmp_path: Path) -> None:
        async with site(tmp_path) as here:
            own, other = await here.handshake(), await here.handshake()
            sending = here.legacy(own, "tools/call", name="wait", arguments={})
            calling = await self.begin(here, sending)
            told = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
            message = {**told, "params": {"requestId": 5}}
            await here.post(message, here.headers(mcp_session_id=other))
            assert said(await here.legacy(other, "tools/call", **ADD)) == "3"
            assert not here.service.waiting[0].ended
            await here.post(message, here.headers(mcp_session_id=own))
            await until(lambda: here.service.waiting[0].ended == "cancelled")
            await self.drop(calling)

    async def test_nor_does_a_server_that_ends(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http, "_LAST_SECONDS", 1)
        async with site(tmp_path) as here:
            calling = await self.begin(here, here.modern("tools/call", name="wait", arguments={}))
        with suppress(httpx2.HTTPError):
            await calling
        waiting = here.service.waiting[0]
        assert not waiting.ended
        assert not waiting.exchange.cancelled
        waiting.go_on.set()
        await until(lambda: waiting.ended == "finished")


class TestLimits:
    async def test_a_body_that_is_too_long(self, tmp_path: Path) -> None:
        async with site(tmp_path, ServeSettings(body=2_000)) as here:
            arguments = {"left": "x" * 3_000}
            answer = await here.modern("tools/call", name="add", arguments=arguments)
            assert answer.status_code == 413

    @pytest.mark.parametrize("body", [b"{", b"[]", b"[" * 100_000, b"\xff", b"7"])
    async def test_a_body_that_is_no_message(self, tmp_path: Path, body: bytes) -> None:
        async with site(tmp_path) as here:
            for version in ("2026-07-28", "2025-11-25"):
                head = here.headers(mcp_protocol_version=version, content_type="application/json")
                answer = await here.client.post(here.plan.url, content=body, headers=head)
                assert answer.status_code == 400
                assert "Traceback" not in answer.text
                assert here.token not in answer.text

    async def test_a_caller_that_asks_too_often_waits(self, tmp_path: Path) -> None:
        async with site(tmp_path, ServeSettings(rate=3)) as here:
            statuses = [(await here.modern("tools/list")).status_code for _ in range(5)]
            answer = await here.modern("tools/list")
        assert statuses[:3] == [200] * 3
        assert 429 in statuses[3:]
        assert answer.headers["retry-after"] == "20"

    async def test_its_room_grows_again_and_is_its_own(self) -> None:
        now = [0.0]
        rate = limits.Rate(lambda *_: asyncio.sleep(0), 60, lambda: now[0])
        assert [rate._admits("a") for _ in range(61)] == [True] * 60 + [False]
        assert rate._admits("b")
        now[0] = 2.0
        assert [rate._admits("a") for _ in range(3)] == [True, True, False]

    async def test_what_is_remembered_of_callers_is_bounded(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "_MOST_CALLERS", 10)
        rate = limits.Rate(lambda *_: asyncio.sleep(0), 60, lambda: 0.0)
        for number in range(100):
            rate._admits(str(number))
        assert len(rate._buckets) == 10

    async def test_too_many_at_once(self, tmp_path: Path) -> None:
        async with site(tmp_path, ServeSettings(calls=2)) as here:
            sending = [
                asyncio.create_task(here.modern("tools/call", name="wait", arguments={}))
                for _ in range(2)
            ]
            await until(lambda: len(here.service.waiting) == 2)
            answer = result(await here.modern("tools/list"))
            assert "under way" in answer["error"]["message"]
            for waiting in here.service.waiting:
                waiting.go_on.set()
            await asyncio.gather(*sending)


class TestSlowLoris:
    async def closed(self, here: Any, *parts: bytes) -> bytes:
        """What comes back from a server that has closed the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", here.plan.port)
        for part in parts:
            writer.write(part)
            await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        return answer

    @pytest.mark.slow
    async def test_who_never_sends_a_head_is_let_go(self, tmp_path: Path) -> None:
        async with site(tmp_path, ServeSettings(slow=0.5)) as here:
            assert await self.closed(here) == b""
            assert await self.closed(here, b"POST /mcp HTTP/1.1\r\n", b"Host: a\r\nX: ") == b""

    async def test_who_never_sends_the_body_is_told(self, tmp_path: Path) -> None:
        async with site(tmp_path, ServeSettings(slow=0.5)) as here:
            head = "\r\n".join(
                [
                    "POST /mcp HTTP/1.1",
                    f"Host: 127.0.0.1:{here.plan.port}",
                    f"Authorization: Bearer {here.token}",
                    "Content-Type: application/json",
                    "Content-Length: 1000",
                    "",
                    "{",
                ]
            )
            assert b" 408 " in (await self.closed(here, head.encode())).split(b"\r\n")[0]

    async def test_a_head_that_is_too_long_is_refused(self, tmp_path: Path) -> None:
        async with site(tmp_path) as here:
            answer = await self.closed(here, b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
            assert b" 400 " in answer.split(b"\r\n")[0]


async def test_nothing_of_the_inside_or_of_secrets_comes_back(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        answers = [
            await here.modern("tools/call", name="crash", arguments={}),
            await here.modern("tools/call", name=here.token, arguments={}, token="wrong"),
            await here.client.get(here.plan.url.replace(PATH, "/etc/passwd")),
            await here.client.put(here.plan.url, headers=here.headers()),
        ]
        for answer in answers:
            assert SECRET not in answer.text
            assert here.token not in answer.text + str(answer.headers)
            assert "uvicorn" not in str(answer.headers).lower()
