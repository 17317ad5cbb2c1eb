"""Servers over streamable HTTP on loopback, one of which is killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from corral.errors import ToolServerError
from corral.tools.address import Address
from corral.tools.contract import CallOptions
from corral.tools.http import HttpServer
from corral.tools.server import Timing
from tests.tools.support import OPTIONS, QUICK, SERVERS

SMALL = Timing(startup=20.0, call=20.0, health=0.3)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Web:
    """The SDK's HTTP server in a process, which can be killed and started again."""

    def __init__(self, *flags: str) -> None:
        self.port = free_port()
        self.flags = flags
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    async def start(self) -> None:
        script = str(SERVERS / "sdk_http.py")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, script, str(self.port), *self.flags, env={}
        )
        for _ in range(3000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            await asyncio.sleep(0.02)
        pytest.fail("the server did not start")

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has died by itself just now
                os.kill(self.process.pid, signal.SIGKILL)
            await self.process.wait()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


async def serve(stack: AsyncExitStack, *flags: str, **options: str) -> tuple[Web, HttpServer]:
    web = Web(*flags)
    stack.push_async_callback(web.kill)
    await web.start()
    server = HttpServer("web", Address(web.url, options), timing=QUICK)
    stack.push_async_callback(server.aclose)
    return web, server


async def test_list_and_call_with_headers(stack: AsyncExitStack) -> None:
    _, server = await serve(stack, Authorization="Bearer right")
    assert {spec.name for spec in await server.list_tools()} >= {"web__add", "web__pid"}
    added = await server.call("add", {"a": 2, "b": 3}, OPTIONS)
    assert added.structured == {"result": 5}
    seen = await server.call("header", {"name": "authorization"}, OPTIONS)
    assert seen.text == "Bearer right"
    await asyncio.gather(
        *(server.call("add", {"a": number, "b": 1}, OPTIONS) for number in range(20))
    )


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("stateful",)], ids=["today", "with-sessions"])
async def test_killed_in_a_call_and_started_again(
    stack: AsyncExitStack, flags: tuple[str, ...]
) -> None:
    web, server = await serve(stack, *flags)
    first = (await server.call("pid", {}, OPTIONS)).text
    with pytest.raises(ToolServerError, match="may or may not have happened"):
        await server.call("die", {}, OPTIONS)
    await web.kill()
    away = await server.call("pid", {}, OPTIONS)
    assert away.is_error
    assert "cannot be reached" in away.text, "refused before it was sent: the outcome is known"
    await web.start()
    second = await server.call("pid", {}, OPTIONS)
    assert not second.is_error, second.text
    assert second.text != first


@pytest.mark.slow
async def test_an_answer_that_is_too_long(stack: AsyncExitStack) -> None:
    _, server = await serve(stack)
    with pytest.raises(ToolServerError, match="more than 16 MiB"):
        await server.call("big", {"size": 20_000_000}, OPTIONS)
    assert (await server.call("add", {"a": 1, "b": 1}, OPTIONS)).text == "2"


async def test_no_server_there() -> None:
    server = HttpServer(
        "web", Address(f"http://127.0.0.1:{free_port()}/mcp?key=secret"), timing=QUICK
    )
    with pytest.raises(ToolServerError, match="cannot be reached") as caught:
        await server.list_tools()
    assert "secret" not in str(caught.value)
    assert caught.value.hint
    await server.aclose()


async def test_a_wrong_password(stack: AsyncExitStack) -> None:
    _, server = await serve(stack, Authorization="Bearer wrong")
    with pytest.raises(ToolServerError, match="HTTP 401") as caught:
        await server.list_tools()
    assert "Bearer" not in str(caught.value)


@pytest.mark.slow
async def test_a_server_that_accepts_and_never_answers() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    server = HttpServer("web", Address(f"http://127.0.0.1:{port}/mcp"), timing=Timing(startup=3.0))
    try:
        with pytest.raises(ToolServerError, match="did not answer within 3 s"):
            await server.list_tools()
    finally:
        await server.aclose()
        listener.close()


async def test_something_that_is_no_mcp_server() -> None:
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"<html>hello</html>"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(page, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    server = HttpServer("web", Address(f"http://127.0.0.1:{port}/mcp"), timing=SMALL)
    try:
        with pytest.raises(ToolServerError, match="could not be used: Unexpected content type"):
            await server.list_tools()
    finally:
        await server.aclose()
        listener.close()


async def test_a_slow_call_times_out_and_the_server_goes_on(stack: AsyncExitStack) -> None:
    _, server = await serve(stack)
    await server.list_tools()
    with pytest.raises(ToolServerError, match="did not answer slow"):
        await server.call("slow", {}, CallOptions("key", timeout=0.2))
    assert (await server.call("add", {"a": 1, "b": 1}, OPTIONS)).text == "2"


async def test_a_server_that_hangs_at_the_goodbye() -> None:
    """It knows sessions, and never answers the request that ends one."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode().lower():
            if head.startswith(("delete", "get")):
                await reader.read()
                break
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            await write_answer(writer, json.loads(await reader.readexactly(length)))
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    server = HttpServer("web", Address(f"http://127.0.0.1:{port}/mcp"), timing=QUICK)
    assert [spec.tool for spec in await server.list_tools()] == ["only"]
    began = time.monotonic()
    await server.aclose()
    assert time.monotonic() - began < 15
    listener.close()


async def write_answer(writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
    results = {
        "initialize": {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "web", "version": "1"},
        },
        "tools/list": {"tools": [{"name": "only", "inputSchema": {"type": "object"}}]},
    }
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": request.get("id")}
    if request["method"] in results:
        message["result"] = results[request["method"]]
    else:
        message["error"] = {"code": -32601, "message": "no such method"}
    body = json.dumps(message).encode()
    status = "200 OK" if "id" in request else "202 Accepted"
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nMcp-Session-Id: 7\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
