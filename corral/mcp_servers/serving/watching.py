"""Clients that listen: they are told that a list or a resource has become another.

A client of 2026-07-28 opens a stream of its own for that (``subscriptions/listen``). One of the
handshake era, on a stream, subscribes to a resource; all lists are told to it unasked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, Final

import mcp_types as types
import structlog
from mcp import MCPError
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import ListenHandler, ResourceUpdated, ServerEvent, SubscriptionBus

from corral.errors import CorralError, NotFoundError
from corral.mcp_servers.serving.callers import Context, Door, caller_of
from corral.mcp_servers.serving.contract import Caller, Service, Watchable
from corral.mcp_servers.serving.faults import crashed, said
from corral.mcp_servers.serving.handlers import RESOURCE_NOT_FOUND
from corral.tools.text import one_line

_log = structlog.get_logger(__name__)

MOST: Final = 32
"""Streams of one caller, and resources that it listens to by them, together."""

_TOO_MANY = (
    f"A client can have {MOST} streams and resources that it listens to. Close a stream, or "
    f"unsubscribe from a resource."
)

Changes = AsyncGenerator[None, None]


class Listening:
    """``subscriptions/listen``. ``lists`` has what all clients hear: that a list has changed.

    The answer names what is really listened to: of resources those that the caller can watch.
    """

    def __init__(self, service: Service, door: Door, lists: SubscriptionBus) -> None:
        self._service = service
        self._door: Door = door
        self._lists = lists
        self._open: Counter[str] = Counter()

    async def __call__(
        self, ctx: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Serve one stream, until its client goes or what it watches cannot be watched any more."""
        caller = caller_of(ctx, self._door)
        wanted = dict.fromkeys(params.notifications.resource_subscriptions or ())
        share = 1 + len(wanted)
        if self._open[caller.owner] + share > MOST:
            raise MCPError(types.INTERNAL_ERROR, _TOO_MANY)
        self._open[caller.owner] += share
        try:
            watched = await self._watched(caller, wanted)
            return await self._serve(ctx, params, watched)
        finally:
            self._open[caller.owner] -= share
            if not self._open[caller.owner]:
                del self._open[caller.owner]

    async def _serve(
        self,
        ctx: Context,
        params: types.SubscriptionsListenRequestParams,
        watched: Mapping[str, Changes],
    ) -> types.SubscriptionsListenResult:
        honoured = {"resource_subscriptions": list(watched)}
        asked = params.notifications.model_copy(update=honoured)
        stream = _Stream(self._lists)
        handler = ListenHandler(stream)
        telling = [
            asyncio.create_task(_tell(changes, stream, uri, handler.close))
            for uri, changes in watched.items()
        ]
        try:
            return await handler(ctx, params.model_copy(update={"notifications": asked}))
        finally:
            for task in telling:
                task.cancel()

    async def _watched(self, caller: Caller, wanted: Iterable[str]) -> dict[str, Changes]:
        if not isinstance(self._service, Watchable):
            return {}
        watched = {}
        for uri in wanted:
            try:
                watched[uri] = await self._service.watch(caller, uri)
            except NotFoundError:
                continue
        return watched


class _Stream:
    """The bus of one stream: what all clients hear, and the changes that only its own may know."""

    def __init__(self, common: SubscriptionBus) -> None:
        self._common = common
        self._listener: Callable[[ServerEvent], None] | None = None
        self.is_heard = asyncio.Event()

    async def publish(self, event: ServerEvent) -> None:
        """Tell the one listener."""
        await self.is_heard.wait()
        assert self._listener is not None
        self._listener(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """See ``SubscriptionBus``."""
        self._listener = listener
        self.is_heard.set()
        return self._common.subscribe(listener)


async def _tell(changes: Changes, stream: _Stream, uri: str, end: Callable[[], None]) -> None:
    """Tell of changes; where no more can be seen the stream ends, and its client asks anew."""
    await _each(changes, partial(stream.publish, ResourceUpdated(uri)))
    end()


async def _each(changes: Changes, tell: Callable[[], Awaitable[None]]) -> None:
    """Tell of each change, until there are no more, or nobody can see them."""
    try:
        async with aclosing(changes):
            async for _ in changes:
                await tell()
    except CorralError as error:
        _log.info("not watched any more", error=error.message)
    except Exception as error:  # noqa: BLE001  # the border to a service
        crashed("watch", error)


class Subscribed:
    """The resources that the handshake-era client of one stream has subscribed to."""

    def __init__(self, service: Watchable, door: Door) -> None:
        self._service = service
        self._door: Door = door
        self._told: dict[str, asyncio.Task[None]] = {}

    def register(self, server: Server[Any]) -> None:
        """Make both methods callable."""
        server.add_request_handler(
            "resources/subscribe", types.SubscribeRequestParams, self._subscribe
        )
        server.add_request_handler(
            "resources/unsubscribe", types.UnsubscribeRequestParams, self._unsubscribe
        )

    def close(self) -> None:
        """The client has gone."""
        for task in tuple(self._told.values()):
            task.cancel()

    async def _subscribe(
        self, ctx: Context, params: types.SubscribeRequestParams
    ) -> types.EmptyResult:
        uri = params.uri
        try:
            changes = await self._service.watch(caller_of(ctx, self._door), uri)
        except NotFoundError as error:
            shown = {"uri": one_line(uri, 400)}
            raise MCPError(RESOURCE_NOT_FOUND, said(error), shown) from None
        if uri in self._told:
            return types.EmptyResult()
        if len(self._told) >= MOST:
            raise MCPError(types.INTERNAL_ERROR, _TOO_MANY)
        tell = partial(ctx.session.send_resource_updated, uri)
        task = asyncio.create_task(_each(changes, tell))
        self._told[uri] = task
        task.add_done_callback(lambda ended: self._forget(uri, ended))
        return types.EmptyResult()

    def _forget(self, uri: str, ended: asyncio.Task[None]) -> None:
        if self._told.get(uri) is ended:
            del self._told[uri]

    async def _unsubscribe(
        self, _: Context, params: types.UnsubscribeRequestParams
    ) -> types.EmptyResult:
        if (task := self._told.pop(params.uri, None)) is not None:
            task.cancel()
        return types.EmptyResult()
