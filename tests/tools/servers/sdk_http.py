"""A server on the SDK over streamable HTTP: python sdk_http.py PORT [stateful]."""

from __future__ import annotations

import asyncio
import os
import sys

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

server = MCPServer("web", log_level="CRITICAL")


@server.tool()
async def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@server.tool()
async def pid() -> str:
    """The server's process id."""
    return str(os.getpid())


@server.tool()
async def die() -> str:
    """End in the middle of the call."""
    os._exit(3)


@server.tool()
async def slow() -> str:
    """Never answer."""
    await asyncio.Event().wait()
    return ""


@server.tool()
async def header(name: str, ctx: Context) -> str:
    """One header of the request."""
    request = ctx.request_context.request
    assert isinstance(request, Request)
    return request.headers.get(name, "none")


@server.tool()
async def big(size: int) -> str:
    """A long answer."""
    return "a" * size


class Legacy:
    """Refuses what is not of the era of sessions, and what brings no or a wrong password."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            if refused := await self.refusal(request):
                await refused(scope, receive, send)
                return
            first: list[Message] = [{"type": "http.request", "body": await request.body()}]

            async def replay() -> Message:
                return first.pop() if first else await receive()

            await self.app(scope, replay, send)
            return
        await self.app(scope, receive, send)

    async def refusal(self, request: Request) -> Response | None:
        if request.headers.get("authorization") == "Bearer wrong":
            return Response(status_code=401)
        if "stateful" in sys.argv and b'"server/discover"' in await request.body():
            error = {"code": -32601, "message": "no such method"}
            return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, 404)
        return None


if __name__ == "__main__":
    app = Legacy(server.streamable_http_app(json_response=True))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical")
