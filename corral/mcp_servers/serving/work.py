"""Calls under way, each a task of its own: it ends when its client cancels it, and not because
its connection did.

A handshake-era client, and one on standard input and output, cancels by a notification. One of
2026-07-28 over HTTP cancels by closing the answer's stream ("the server MUST treat a client
disconnect as cancellation of that request", specification 2026-07-28, cancellation).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import mcp_types as types
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult

from corral.mcp_servers.serving.callers import Context, Door, is_modern
from corral.mcp_servers.serving.exchange import Call
from corral.mcp_servers.serving.sessions import HEADER

_Result = TypeVar("_Result")

_Key = tuple[str, str]
"""A session and the id of a request in it."""

_CANCELLED = -32800
"""The code of a call that was cancelled, as the Language Server Protocol has it."""


@dataclass(frozen=True)
class _Running:
    task: asyncio.Task[Any]
    call: Call

    def cancel(self) -> None:
        self.call.is_cancelled = True
        self.task.cancel()


class Work:
    """The calls under way of one server. It must ``leave`` before it closes streams by itself."""

    def __init__(self, door: Door) -> None:
        self._door: Door = door
        self._tasks: set[asyncio.Task[Any]] = set()
        self._named: dict[_Key, _Running] = {}
        self._leaving = False

    def leave(self) -> None:
        """From now on a stream that closes is closed by us: it cancels nothing."""
        self._leaving = True

    async def run(self, ctx: Context, call: Call, working: Coroutine[Any, Any, _Result]) -> _Result:
        """What ``working`` returns, while the client waits for it."""
        task = asyncio.ensure_future(working)
        running = _Running(task, call)
        self._keep(running, self._key(ctx, ctx.request_id))
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            if self._door == "http" and is_modern(ctx) and not self._leaving:
                running.cancel()
            raise
        if task.cancelled():
            raise MCPError(_CANCELLED, "The call was cancelled.")
        return task.result()

    async def watch_cancellations(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Middleware: a client's cancellation reaches the call that it names."""
        if ctx.method == "notifications/cancelled":
            key = self._key(ctx, (ctx.params or {}).get("requestId"))
            running = self._named.get(key) if key else None
            if running is not None:
                running.cancel()
        return await call_next(ctx)

    def _keep(self, running: _Running, key: _Key | None) -> None:
        self._tasks.add(running.task)
        if key is not None:
            self._named[key] = running

        def forget(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if key is not None and self._named.get(key) is running:
                del self._named[key]
            if not task.cancelled():
                task.exception()  # told to the client, or to nobody where that has gone

        running.task.add_done_callback(forget)

    def _key(self, ctx: Context, request: types.RequestId | None) -> _Key | None:
        """``None`` where a request's id says nothing: over HTTP without a session."""
        if request is None:
            return None
        if self._door == "stdio":
            return "", str(request)
        session = ctx.request.headers.get(HEADER) if ctx.request is not None else None
        return None if session is None else (session, str(request))
