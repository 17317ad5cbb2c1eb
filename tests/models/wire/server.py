"""A loopback HTTP server that replays wire shapes and keeps what it was sent."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any

SHAPES = Path(__file__).parent
_SLICE = 61


@dataclass(frozen=True)
class Reply:
    """One answer. ``cut`` announces more than is sent; ``hold`` keeps the connection open."""

    body: bytes
    status: int = 200
    content_type: str = "text/event-stream; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hold: bool = False


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float


def shape(name: str, *, lines: int | None = None) -> Reply:
    """A recorded stream, or its first lines only."""
    text = (SHAPES / f"{name}.sse").read_text(encoding="utf-8")
    if lines is not None:
        text = "".join(text.splitlines(keepends=True)[:lines])
    return Reply(text.encode())


def failure(status: int, body: object, **headers: str) -> Reply:
    """An error as providers send it: JSON, or text such as a proxy's page."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, str):
        return Reply(body.encode(), status, "text/html", named)
    return Reply(json.dumps(body).encode(), status, "application/json", named)


class WireServer:
    """Answers its requests with its replies, in order; the last one is repeated."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = list(replies)
        self.requests: list[Request] = []
        self.gone = asyncio.Event()
        """Set when a client has left a connection that was held open."""

    async def __aenter__(self) -> WireServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [request.body for request in self.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            path, content = head[0].split()[1], json.loads(body or b"{}")
            self.requests.append(Request(path, headers, content, time.monotonic()))
            reply = self._replies[0] if len(self._replies) == 1 else self._replies.pop(0)
            await self._send(reply, writer)
            if reply.hold:
                await reader.read()
                self.gone.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            writer.close()

    async def _send(self, reply: Reply, writer: asyncio.StreamWriter) -> None:
        length = {} if reply.hold else {"content-length": str(len(reply.body) + 999 * reply.cut)}
        headers = {"content-type": reply.content_type, "connection": "close"}
        phrase = "Overloaded" if reply.status == 529 else HTTPStatus(reply.status).phrase
        lines = [f"HTTP/1.1 {reply.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in (headers | length | reply.headers).items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        for start in range(0, len(reply.body), _SLICE):
            writer.write(reply.body[start : start + _SLICE])
            await writer.drain()
