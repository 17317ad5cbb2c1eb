"""A third-party server in the real sandbox, with the network that its entry grants."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from corral.errors import SandboxError
from corral.sandbox.backends.unconfined import UnconfinedBackend
from corral.sandbox.registry import select_backend
from corral.tools.builder import build_provider
from corral.tools.config import ServerConfig
from corral.tools.contract import CallOptions, ToolProvider
from tests.sandbox.network.upstream import Log, service
from tests.tools.support import until

SCRIPT = Path(__file__).parent / "servers" / "fetching.py"


def entry(tmp_path: Path, **fields: Any) -> ServerConfig:
    """An entry for the fetching server, started with the system's interpreter."""
    data = {"command": "/usr/bin/python3", "args": [str(SCRIPT)], "grants": [str(SCRIPT.parent)]}
    return ServerConfig.model_validate({**data, "trust": True, **fields})


@asynccontextmanager
async def server(tmp_path: Path, **fields: Any) -> AsyncIterator[ToolProvider]:
    provider = build_provider("ext", entry(tmp_path, **fields), select_backend(), tmp_path, {})
    try:
        yield provider
    finally:
        await provider.aclose()


def at(tmp_path: Path, port: int) -> AbstractAsyncContextManager[ToolProvider]:
    return server(tmp_path, network=[f"localhost:{port} private"])


async def call(provider: ToolProvider, tool: str, url: str, log: Log | None = None) -> str:
    options = CallOptions("key", 30.0, watch=log)
    return (await provider.call(tool, {"url": url}, options)).text


def folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("corral-network-*"))


async def test_it_reaches_what_its_entry_names_and_nothing_else(tmp_path: Path) -> None:
    before = folders()
    async with service() as up, service() as other:
        network = [f"localhost:{up.port} GET private"]
        async with server(tmp_path, network=network) as provider:
            log = Log()
            url = f"http://localhost:{up.port}/a?b=c"
            assert await call(provider, "fetch", url, log) == "200 hello"
            said = await call(provider, "fetch", f"http://localhost:{other.port}/", log)
            assert said.startswith("403 ")
            assert f'add "localhost:{other.port}" to network of [mcp.ext]' in said
            assert "403" in await call(provider, "fetch", "https://example.com/", log)
            assert "failed" in await call(provider, "direct", f"127.0.0.1:{up.port}")
            assert "failed" in await call(provider, "direct", "192.0.2.1:80")
            assert len(folders() - before) == 1
    assert folders() == before
    assert other.connections == 0
    assert [(one.method, one.path, bool(one.refused)) for one in log.attempted] == [
        ("GET", "/a", False),
        ("GET", "/", True),
        ("CONNECT", "", True),
    ]


async def test_a_secret_is_in_its_requests_and_not_in_its_sandbox(tmp_path: Path) -> None:
    async with service() as up:
        given = ServerConfig.model_validate(
            {
                **entry(tmp_path).model_dump(),
                "network": [f"localhost:{up.port} private"],
                "inject": {"localhost": {"Authorization": "Bearer ${TOKEN}"}},
            }
        )
        environ = {"TOKEN": "canary-0123456789"}
        assert given.injected(environ) >= {"canary-0123456789"}
        provider = build_provider("ext", given, select_backend(), tmp_path, environ)
        try:
            await call(provider, "fetch", f"http://localhost:{up.port}/")
            inside = await call(provider, "environment", "")
        finally:
            await provider.aclose()
    assert "authorization: bearer canary-0123456789" in up.heads[0].lower()
    assert "canary" not in inside
    found = json.loads(inside)
    assert found["HTTPS_PROXY"] == found["http_proxy"] == "http://127.0.0.1:3128"
    assert found["SSL_CERT_FILE"] == found["GIT_SSL_CAINFO"]


async def test_calls_at_once_share_what_is_opened_meanwhile(tmp_path: Path) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        waiting.append(writer)
        await until(lambda: len(waiting) == 2)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    waiting: list[asyncio.StreamWriter] = []
    async with service(serve=slow) as up, at(tmp_path, up.port) as provider:
        one, two = Log(), Log()
        url = f"http://localhost:{up.port}"
        first = asyncio.create_task(call(provider, "fetch", f"{url}/1", one))
        await until(lambda: len(waiting) == 1)
        second = asyncio.create_task(call(provider, "fetch", f"{url}/2", two))
        assert await first == await second == "200 ok"
    assert ("/1", False, False) in {(a.path, a.shared, a.reused) for a in one.attempted}
    assert ("/2", True, False) in {(a.path, a.shared, a.reused) for a in two.attempted}
    assert [end.status for end in two.ended_ if not end.is_open][-1] == 200


async def test_a_connection_that_outlives_its_call_is_told_to_the_next(tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)

    async with service(serve=echo) as up:
        where = f"localhost:{up.port}"
        async with server(tmp_path, network=[f"{where} private"]) as provider:
            one, two, three = Log(), Log(), Log()
            assert await call(provider, "keep", where, one) == "ping"
            await call(provider, "environment", "", two)
            assert await call(provider, "keep", where, three) == "ping"
    assert [(a.method, a.reused) for a in one.attempted] == [("CONNECT", False)]
    assert [(end.sent, end.received, end.is_open) for end in one.ended_] == [(4, 4, True)]
    assert two.attempted == []
    assert [(a.method, a.reused) for a in three.attempted] == [("CONNECT", True)]
    assert [(end.sent, end.received) for end in three.ended_] == [(4, 4)]
    assert up.connections == 1


async def test_what_cannot_be_had_without_a_sandbox(tmp_path: Path) -> None:
    secret = {
        "network": ["localhost:1 private"],
        "inject": {"localhost": {"Authorization": "Bearer x"}},
    }
    provider = build_provider("ext", entry(tmp_path, **secret), UnconfinedBackend(), tmp_path, {})
    with pytest.raises(SandboxError, match="needs a sandbox"):
        await provider.list_tools()
    await provider.aclose()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"network": ["a b c"]}, "not understood"),
        ({"network": ["example.com get"]}, "methods that are none"),
        ({"network": ["example.com:99999"]}, "no usable port"),
        ({"network": ["0x7f.1"]}, "four decimal numbers"),
        ({"network": ["http://example.com"]}, "no usable port"),
        ({"network": ["a.test"], "inject": {"b.test": {"X-Key": "1"}}}, "no network rule names"),
        ({"network": ["a.test"], "inject": {"a.test": {"Host": "1"}}}, "no header that can be"),
        ({"network": ["a.test"], "sandbox": False}, "in the sandbox"),
        ({"limits": {"memory_mb": -1}}, "greater than 0"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        entry(tmp_path, **fields)
