"""A ``Service`` on the MCP SDK's low-level server: both eras of the protocol, by either door."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import mcp_types as types
from mcp.server.caching import CacheHint
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    PromptsListChanged,
    ResourcesListChanged,
    ServerEvent,
    ToolsListChanged,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from corral.mcp_servers.serving.callers import TASKS, Context, Door, caller_of
from corral.mcp_servers.serving.contract import Changing, Listed, Service, Watchable
from corral.mcp_servers.serving.faults import Hygiene
from corral.mcp_servers.serving.handlers import Handlers
from corral.mcp_servers.serving.limits import Crowd
from corral.mcp_servers.serving.tasks import Tasks
from corral.mcp_servers.serving.watching import Listening, Subscribed
from corral.mcp_servers.serving.work import Work

_EVENTS: dict[Listed, ServerEvent] = {
    "tools": ToolsListChanged(),
    "resources": ResourcesListChanged(),
    "prompts": PromptsListChanged(),
}
_HUMAN_SECONDS = 24 * 3600.0
"""How long a question that travels with the client can be answered."""

_FRESH = CacheHint(ttl_ms=30_000, scope="private")


@dataclass
class Layer:
    """What serves a service. ``key``: 32 secret bytes that all processes of this machine share.

    ``calls`` is how many requests one client may have under way at one time.
    """

    service: Service
    key: bytes
    calls: int = 64
    _bus: InMemorySubscriptionBus = field(default_factory=InMemorySubscriptionBus)
    _legacy: set[ServerSession] = field(default_factory=set)

    def __post_init__(self) -> None:
        if isinstance(self.service, Changing):
            self.service.announce_by(self.changed)

    def served(self, door: Door) -> Served:
        """A server for one connection, or, by HTTP, for all of this process."""
        return Served(self, door)

    async def changed(self, listed: Listed) -> None:
        """Tell the clients that listen that the tools, resources or prompts are others now."""
        await self._bus.publish(_EVENTS[listed])
        for session in tuple(self._legacy):
            match listed:
                case "tools":
                    await session.send_tool_list_changed()
                case "resources":
                    await session.send_resource_list_changed()
                case "prompts":
                    await session.send_prompt_list_changed()


class Served:
    """The SDK's server for one door, with the work that its clients have under way."""

    def __init__(self, layer: Layer, door: Door) -> None:
        self._layer = layer
        self._door: Door = door
        self._session: ServerSession | None = None
        self._subscribed: Subscribed | None = None
        self.work = Work(door)
        self.server = self._made()

    @property
    def options(self) -> InitializationOptions:
        """What a handshake over a stream is answered with."""
        return self.server.create_initialization_options(NotificationOptions(True, True, True))

    def close(self) -> None:
        """The connection is over; what its client has begun goes on."""
        self.work.leave()
        if self._subscribed is not None:
            self._subscribed.close()
        if self._session is not None:
            self._layer._legacy.discard(self._session)

    def _made(self) -> Server[Any]:
        service = self._layer.service
        identity = service.identity
        handlers = Handlers(service, self._door, self.work)
        server: Server[Any] = Server(
            identity.name,
            version=identity.version,
            title=identity.title,
            instructions=identity.instructions or None,
            cache_hints={"tools/list": _FRESH, "prompts/list": _FRESH},
            on_list_tools=handlers.list_tools,
            on_call_tool=handlers.call_tool,
            on_list_resources=handlers.list_resources,
            on_list_resource_templates=handlers.list_templates,
            on_read_resource=handlers.read_resource,
            on_list_prompts=handlers.list_prompts,
            on_get_prompt=handlers.get_prompt,
            on_completion=handlers.complete,
            on_subscriptions_listen=Listening(service, self._door, self._layer._bus),
        )
        server.add_request_handler("server/discover", types.RequestParams, self._discover)
        server.add_notification_handler(
            "notifications/initialized", types.NotificationParams, self._shake_hands
        )
        Tasks(service, self._door).register(server)
        if self._door == "stdio" and isinstance(service, Watchable):
            self._subscribed = Subscribed(service, self._door)
            self._subscribed.register(server)
        # The SDK's own tracing goes with it: a run has a trace of its own.
        server.middleware = [
            Hygiene(self._door),
            self.work.watch_cancellations,
            Crowd(self._layer.calls, self._door),
            self._boundary(identity.name),
        ]
        return server

    def _boundary(self, name: str) -> RequestStateBoundary:
        security = RequestStateSecurity(
            keys=[self._layer.key],
            ttl=_HUMAN_SECONDS,
            bind_principal=lambda ctx: caller_of(ctx, self._door).owner,
        )
        return RequestStateBoundary(security, default_audience=name)

    async def _discover(self, ctx: Context, _: types.RequestParams) -> types.DiscoverResult:
        server = self.server
        return types.DiscoverResult(
            supported_versions=list(MODERN_PROTOCOL_VERSIONS),
            capabilities=server.get_capabilities(
                extensions={TASKS: {}}, protocol_version=ctx.protocol_version
            ),
            instructions=server.instructions,
        )

    async def _shake_hands(self, ctx: Context, _: types.NotificationParams) -> None:
        """A stream's client of the handshake era is told of changes unasked."""
        if self._door == "stdio":
            self._session = ctx.session
            self._layer._legacy.add(ctx.session)
