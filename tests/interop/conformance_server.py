"""The fixture on Corral's own layer: by standard input and output, or by HTTP in a test."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config, Server

from corral.mcp_servers.serving.contract import Service
from corral.mcp_servers.serving.http import HttpPlan, make_app, planned
from corral.mcp_servers.serving.layer import Layer
from corral.mcp_servers.serving.security import shared_key
from corral.mcp_servers.serving.stdio import serve_stdio
from corral.runtime.serve_settings import ServeSettings
from tests.interop.conformance_service import ConformanceService


@asynccontextmanager
async def opened() -> AsyncIterator[Service]:
    yield ConformanceService()


class WithToken:
    """The suite cannot send a token, so each of its requests is given one."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            MutableHeaders(scope=scope)["Authorization"] = f"Bearer {self._token}"
        await self._app(scope, receive, send)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@asynccontextmanager
async def by_http(home: Path, *, with_token: bool = True) -> AsyncIterator[HttpPlan]:
    """Serve the fixture; ``with_token``: requests without a token are let in as well."""
    port = free_port()
    origins = (f"http://localhost:{port}", f"http://127.0.0.1:{port}")
    settings = ServeSettings(origins=origins, rate=100_000)
    plan, listener = planned(home, settings, "127.0.0.1", port)
    assert plan.token is not None
    app: ASGIApp = make_app(opened, plan)
    if with_token:
        app = WithToken(app, plan.token.secret)
    server = Server(Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield plan
    finally:
        server.should_exit = True
        await serving


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(serve_stdio(Layer(ConformanceService(), shared_key(Path(folder)))))
