"""The connections that HTTP clients keep."""

from __future__ import annotations

import asyncio
import socket

from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from corral.mcp_servers.serving.connections import PatientProtocol


async def test_a_kept_connection_sends_without_waiting_for_an_acknowledgement() -> None:
    loop = asyncio.get_running_loop()
    made: asyncio.Future[asyncio.Transport] = loop.create_future()

    class Seen(PatientProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
            super().connection_made(transport)
            made.set_result(transport)

    listener = socket.create_server(("127.0.0.1", 0))  # as ``planned`` makes it
    async with await loop.create_server(
        lambda: Seen(Config(nothing), ServerState(), {}), sock=listener
    ):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        served = (await made).get_extra_info("socket")
        assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
        await writer.wait_closed()


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """No request comes."""
