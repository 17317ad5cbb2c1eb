"""Sessions of handshake-era clients that no process remembers.

With several workers a client's requests land on any of them. What its handshake said of it is
sealed into the session's id, so that every worker can read it and nobody can make it up.
"""

from __future__ import annotations

import json
from typing import Any

from mcp.server.request_state import InvalidRequestState, RequestStateCodec
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "mcp-session-id"

_CLIENT = "corral.mcp.client"
LONGEST_HANDSHAKE = 64 * 1024
"""Bytes. In a longer one it is not looked for who the client is."""


def recalled(request: Any) -> tuple[str, str] | None:
    """Name and version that the client of a request had given in its handshake, if it had one."""
    found = request.scope.get(_CLIENT) if isinstance(request, Request) else None
    return found if isinstance(found, tuple) else None


class SealedSessions:
    """Hands out session ids and reads them again. One that it has not made is answered by 404."""

    def __init__(self, app: ASGIApp, codec: RequestStateCodec) -> None:
        self._app = app
        self._codec = codec

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        known = Headers(scope=scope).get(HEADER)
        if known is None:
            await self._begin(scope, receive, send)
            return
        try:
            name, version = json.loads(self._codec.unseal(known))
        except (InvalidRequestState, ValueError, TypeError):
            await _gone(send)
            return
        scope[_CLIENT] = (str(name), str(version))
        await self._app(scope, receive, send)

    async def _begin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request without a session; a handshake gets one with its answer's head."""
        body = bytearray()

        async def overhear() -> Message:
            message = await receive()
            if len(body) <= LONGEST_HANDSHAKE:
                body.extend(message.get("body", b""))
            return message

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                client = introduced(bytes(body))
                if client is not None:
                    sealed = self._codec.seal(json.dumps(client).encode())
                    MutableHeaders(scope=message)[HEADER] = sealed
            await send(message)

        await self._app(scope, overhear, answer)


def introduced(body: bytes) -> list[str] | None:
    """Name and version of a client whose handshake this is; ``None`` for any other request."""
    if len(body) > LONGEST_HANDSHAKE or b'"initialize"' not in body:
        return None
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    match message:
        case {"method": "initialize", "params": {"clientInfo": dict() as info}}:
            return [str(info.get(key, ""))[:200] for key in ("name", "version")]
        case _:
            return None


async def _gone(send: Send) -> None:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Session not found"}}
    await send(
        {
            "type": "http.response.start",
            "status": 404,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
