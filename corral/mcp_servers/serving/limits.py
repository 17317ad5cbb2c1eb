"""How much of us one client can have: sessions, requests at once and a minute, time to send one."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Container
from typing import Any

from mcp import MCPError
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.context import CallNext, HandlerResult
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral.mcp_servers.serving.callers import Context, Door, caller_of
from corral.mcp_servers.serving.sessions import HEADER, LONGEST_HANDSHAKE, introduced

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


class SessionShare:
    """So many sessions of one caller are open at one time; one more is answered by 429.

    ``open_sessions`` has the ids of all that are open, whoever they are of.
    """

    def __init__(self, app: ASGIApp, open_sessions: Container[str], most: int) -> None:
        self._app = app
        self._open_sessions = open_sessions
        self._most = most
        self._callers: dict[str, str] = {}
        self._opening: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not _may_open_session(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        body, receive = await _peeked(receive)
        name, _ = introduced(body) or ("", "")
        caller = f"{_principal(scope)} {name}"
        if self._count(caller) >= self._most:
            await _too_many_sessions(self._most)(scope, receive, send)
            return

        async def opened(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                session = Headers(raw=message["headers"]).get(HEADER)
                if session is not None:
                    self._callers[session] = caller
            await send(message)

        self._opening[caller] += 1
        try:
            await self._app(scope, receive, opened)
        finally:
            self._opening[caller] -= 1
            if not self._opening[caller]:
                del self._opening[caller]

    def _count(self, caller: str) -> int:
        """How many sessions a caller has, with those that are about to be opened."""
        self._callers = {
            session: of for session, of in self._callers.items() if session in self._open_sessions
        }
        return sum(of == caller for of in self._callers.values()) + self._opening[caller]


def _may_open_session(headers: Headers) -> bool:
    version = headers.get("mcp-protocol-version")
    is_of_handshakes = version is None or version in HANDSHAKE_PROTOCOL_VERSIONS
    return is_of_handshakes and HEADER not in headers


async def _peeked(receive: Receive) -> tuple[bytes, Receive]:
    """A body, or its beginning if it is too long for a handshake; and all of it once more."""
    messages: deque[Message] = deque()
    body = bytearray()
    is_more = True
    while is_more and len(body) <= LONGEST_HANDSHAKE:
        messages.append(await receive())
        body += messages[-1].get("body", b"")
        is_more = messages[-1].get("more_body", False)

    async def again() -> Message:
        return messages.popleft() if messages else await receive()

    return bytes(body), again


def _too_many_sessions(most: int) -> ASGIApp:
    said = f"You have {most} sessions open. End one that you do not use any more, with DELETE."
    error = {"code": _TOO_MANY, "message": said}
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, 429)


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
