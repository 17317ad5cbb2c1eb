"""The gated service by HTTP, on a socket of loopback, and requests to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from uvicorn import Server

from corral.mcp_servers.serving import http
from corral.mcp_servers.serving.contract import Service
from corral.mcp_servers.serving.http import HttpPlan, planned
from corral.runtime.serve_settings import ServeSettings
from tests.mcp_servers.serving.service import GatedService, envelope

ACCEPT = "application/json, text/event-stream"


@dataclass
class Site:
    """A running server. ``client`` sends no token of its own."""

    plan: HttpPlan
    service: GatedService
    client: httpx2.AsyncClient

    @property
    def token(self) -> str:
        assert self.plan.token is not None
        return self.plan.token.secret

    def headers(self, token: str | None = None, **more: str) -> dict[str, str]:
        """What a request carries; ``_`` in a name stands for ``-``."""
        named = {name.replace("_", "-"): value for name, value in more.items()}
        bearer = f"Bearer {self.token if token is None else token}"
        return {"Accept": ACCEPT, "Authorization": bearer, **named}

    async def modern(
        self, method: str, token: str | None = None, client: str = "mine", **params: Any
    ) -> httpx2.Response:
        """A request of 2026-07-28."""
        head = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
        if name := params.get("name") or params.get("uri"):
            head["Mcp-Name"] = name
        body = {**params, "_meta": envelope(client)}
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": body}
        return await self.post(message, self.headers(token) | head)

    async def post(self, message: Any, headers: dict[str, str]) -> httpx2.Response:
        return await self.client.post(self.plan.url, json=message, headers=headers)

    async def handshake(self, token: str | None = None, client: str = "mine") -> str:
        """Begin a session of the handshake era; its id."""
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": client, "version": "1"},
        }
        message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        answer = await self.post(message, self.headers(token))
        assert answer.status_code == 200, answer.text
        session: str = answer.headers["mcp-session-id"]
        told = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        done = await self.post(told, self.headers(token, mcp_session_id=session))
        assert done.status_code == 202
        return session

    async def legacy(
        self, session: str, method: str, token: str | None = None, **params: Any
    ) -> httpx2.Response:
        """A request in a session."""
        message = {"jsonrpc": "2.0", "id": 5, "method": method, "params": params}
        head = self.headers(token, mcp_session_id=session, mcp_protocol_version="2025-11-25")
        return await self.post(message, head)


def result(answer: httpx2.Response) -> dict[str, Any]:
    """What a request was answered, as JSON or as the last event of a stream."""
    text = answer.text
    if answer.headers["content-type"].startswith("text/event-stream"):
        text = [line for line in text.splitlines() if line.startswith("data: {")][-1][6:]
    message: dict[str, Any] = json.loads(text)
    return message


@asynccontextmanager
async def site(
    home: Path,
    settings: ServeSettings | None = None,
    *,
    host: str = "127.0.0.1",
    stateless: bool = False,
) -> AsyncIterator[Site]:
    """Serve until the end of the block. ``stateless``: as one of several workers does."""
    service = GatedService()

    @asynccontextmanager
    async def opened() -> AsyncIterator[Service]:
        yield service

    plan, listener = planned(home, settings or ServeSettings(), host, 0, 2 if stateless else 1)
    server = Server(http._config(opened, plan))
    serving = asyncio.create_task(server.serve([listener]))
    async with httpx2.AsyncClient(timeout=60) as client:
        try:
            yield Site(plan, service, client)
        finally:
            server.should_exit = True
            await asyncio.wait_for(serving, 60)
