"""How much of us one client can have: requests at once, requests a minute, and time to send one."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from mcp import MCPError
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.context import CallNext, HandlerResult
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral.mcp_servers.serving.callers import Context, Door, caller_of

_MOST_CALLERS = 10_000
_TOO_MANY = -32000
_UNCOUNTED = frozenset({"subscriptions/listen", "initialize", "ping"})


class Crowd:
    """Middleware: so many requests of one caller are under way at one time, and no more."""

    def __init__(self, most: int, door: Door) -> None:
        self._most = most
        self._door: Door = door
        self._under_way: Counter[str] = Counter()

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Serve the request, or say that there are too many."""
        if ctx.request_id is None or ctx.method in _UNCOUNTED:
            return await call_next(ctx)
        owner = caller_of(ctx, self._door).owner
        if self._under_way[owner] >= self._most:
            raise MCPError(
                _TOO_MANY,
                f"{self._most} of your requests are under way already. Wait until one has ended.",
            )
        self._under_way[owner] += 1
        try:
            return await call_next(ctx)
        finally:
            self._under_way[owner] -= 1
            if not self._under_way[owner]:
                del self._under_way[owner]


class Rate:
    """So many requests a minute from one caller (a token bucket); the next are answered by 429."""

    def __init__(
        self, app: ASGIApp, a_minute: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._a_minute = a_minute
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or self._admits(_principal(scope)):
            await self._app(scope, receive, send)
            return
        seconds = str(-(-60 // self._a_minute))
        answer = PlainTextResponse("Too many requests", 429, headers={"Retry-After": seconds})
        await answer(scope, receive, send)

    def _admits(self, caller: str) -> bool:
        now = self._clock()
        left, since = self._buckets.pop(caller, (float(self._a_minute), now))
        left = min(self._a_minute, left + (now - since) * self._a_minute / 60)
        admits = left >= 1
        self._buckets[caller] = (left - 1 if admits else left, now)
        if len(self._buckets) > _MOST_CALLERS:
            self._buckets.popitem(last=False)
        return admits


def _principal(scope: Scope) -> str:
    """Who is counted: the token's subject, else the address."""
    user = scope.get("user")
    if isinstance(user, AuthenticatedUser):
        token = user.access_token
        return f"{token.client_id} {token.subject} {(token.claims or {}).get('iss')}"
    client: Any = scope.get("client")
    return str(client[0]) if client else ""


class SlowBody:
    """A request's body must be here within so many seconds; else it is answered by 408."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + self._seconds
        is_whole = False
        has_begun = False

        async def within() -> Message:
            nonlocal is_whole
            if is_whole:
                return await receive()
            async with asyncio.timeout_at(due):
                message = await receive()
            is_whole = not message.get("more_body", False)
            return message

        async def begin(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, within, begin)
        except TimeoutError:
            if is_whole or has_begun:
                raise
            answer = PlainTextResponse(
                "The request did not come", 408, headers={"Connection": "close"}
            )
            await answer(scope, receive, send)
