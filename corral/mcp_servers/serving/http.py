"""A service by streamable HTTP: in this process, or in several that share one socket.

    Names → SlowBody → who it is (a token) → Rate → the SDK's sessions → the layer

Requests of 2026-07-28 have no session, so any worker answers them. A client of the handshake era
has a session where there is one worker, and can then be asked; with several it has none
(``sessions``).
"""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.request_state import AESGCMRequestStateCodec
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess

from corral.errors import ConfigError
from corral.mcp_servers.serving.announcing import Listening
from corral.mcp_servers.serving.connections import WORK, PatientProtocol
from corral.mcp_servers.serving.contract import Service
from corral.mcp_servers.serving.layer import Layer
from corral.mcp_servers.serving.limits import Rate, SessionShare, SlowBody
from corral.mcp_servers.serving.oauth import IssuedToken
from corral.mcp_servers.serving.security import (
    LocalToken,
    Names,
    is_loopback,
    local_token,
    names_of,
    shared_key,
)
from corral.mcp_servers.serving.sessions import SealedSessions
from corral.mcp_servers.serving.streams import Sessions
from corral.mcp_servers.serving.work import Work
from corral.runtime.serve_settings import OAuthSettings, ServeSettings

PATH = "/mcp"

Opening = Callable[[], AbstractAsyncContextManager[Service]]
"""Opens the service of one worker. With several workers it is pickled, as a function is."""

_MOST_SESSIONS = 1_000
_MOST_SESSIONS_OF_ONE = 100
_MOST_CONNECTIONS = 1_024
_LONGEST_HEAD = 32 * 1024
_LAST_SECONDS = 5
_START_SECONDS = 60
"""A worker that says nothing for so long is replaced; starting takes seconds where much is done."""


@dataclass(frozen=True)
class HttpPlan:
    """Where and how to serve. ``port`` 0 is any free one, which ``bound`` then names."""

    home: Path
    settings: ServeSettings = field(default_factory=ServeSettings)
    host: str = "127.0.0.1"
    port: int = 0
    workers: int = 1
    token: LocalToken | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        if self.settings.oauth is not None:
            return self.settings.oauth.audience
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{PATH}"

    def listening(self, what: str, pid: int) -> Listening:
        """What ``announced`` is told of it."""
        return Listening(self.url, self.token.secret if self.token else "", what, pid)


def planned(
    home: Path, settings: ServeSettings, host: str, port: int, workers: int = 1
) -> tuple[HttpPlan, socket.socket]:
    """A plan with a token where it needs one, and the socket that it listens on.

    Raises ``ConfigError``: what others can reach needs an authorization server, and a port may be
    in use.
    """
    if settings.oauth is None and not is_loopback(host):
        raise ConfigError(
            f"{host} is not loopback: whoever reaches this machine could use your agents.",
            hint="Set [serve.oauth] (issuer and audience), or serve on 127.0.0.1.",
        )
    token = local_token(settings.token_env) if settings.oauth is None else None
    try:
        listener = socket.create_server((host, port), family=_family(host), backlog=512)
    except OSError as error:
        raise ConfigError(
            f"Port {port} of {host} cannot be used: {error.strerror}.",
            hint="Choose another one: --port 0 takes any that is free.",
        ) from error
    plan = HttpPlan(home, settings, host, listener.getsockname()[1], workers, token)
    return plan, listener


async def serve_here(opening: Opening, plan: HttpPlan, listener: socket.socket) -> None:
    """Serve in this process, until it is told to end by a signal or cancelled."""
    with _signals_end_here():
        await Server(_config(opening, plan)).serve([listener])


@contextmanager
def _signals_end_here() -> Iterator[None]:
    """uvicorn raises the signal that has ended it once more: what is around it would not be put
    away.
    """
    before = {one: signal.signal(one, lambda *_: None) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def serve_workers(opening: Opening, plan: HttpPlan, listener: socket.socket) -> None:
    """Serve in ``plan.workers`` processes, until this one is told to end by a signal.

    A worker that dies is replaced.
    """
    Multiprocess(_config(opening, plan), [listener]).run()


def make_app(opening: Opening, plan: HttpPlan) -> Starlette:
    """The application of one worker."""
    oauth = plan.settings.oauth
    endpoint = _Endpoint()
    guarded = RequireAuthMiddleware(
        Rate(endpoint, plan.settings.rate),
        list(oauth.scopes) if oauth else [],
        build_resource_metadata_url(AnyHttpUrl(oauth.audience)) if oauth else None,
    )
    return Starlette(
        routes=[Route(PATH, endpoint=guarded), *(_metadata(oauth) if oauth else ())],
        middleware=_middleware(plan),
        lifespan=lambda _: _open(opening, plan, endpoint),
    )


class _Endpoint:
    """The SDK's application, which there is only once the service is open."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)


@asynccontextmanager
async def _open(
    opening: Opening, plan: HttpPlan, endpoint: _Endpoint
) -> AsyncIterator[dict[str, Work]]:
    key = shared_key(plan.home)
    async with opening() as service:
        served = Layer(service, key, plan.settings.calls).served("http")
        manager = Sessions(
            served.server,
            stateless=plan.workers > 1,
            max_request_body_size=plan.settings.body,
            max_sessions=_MOST_SESSIONS,
        )
        app: ASGIApp = StreamableHTTPASGIApp(manager)
        if plan.workers > 1:
            app = SealedSessions(app, AESGCMRequestStateCodec([key]))
        else:
            app = SessionShare(app, manager._server_instances, _MOST_SESSIONS_OF_ONE)
        endpoint.app = app
        async with manager.run():
            yield {WORK: served.work}


def _middleware(plan: HttpPlan) -> list[Middleware]:
    settings = plan.settings
    hosts = names_of(plan.host, plan.port, settings.hosts)
    if settings.oauth is not None:
        known = urlsplit(settings.oauth.audience)
        hosts += [known.netloc, known.hostname or known.netloc]
    origins = list(settings.origins)
    verifier = IssuedToken(settings.oauth) if settings.oauth else plan.token
    assert verifier is not None
    audience = AnyHttpUrl(settings.oauth.audience) if settings.oauth else None
    backend = BearerAuthBackend(verifier, resource_server_url=audience)
    pages = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["POST", "GET", "DELETE"],
        allow_headers=["*"],
        expose_headers=["Mcp-Session-Id", "WWW-Authenticate"],
    )
    return [
        Middleware(Names, hosts=hosts, origins=origins),
        *([pages] if origins else []),
        Middleware(SlowBody, seconds=settings.slow),
        Middleware(AuthenticationMiddleware, backend=backend),
        Middleware(AuthContextMiddleware),
    ]


def _metadata(oauth: OAuthSettings) -> list[Route]:
    """What a client needs to get a token (RFC 9728)."""
    return create_protected_resource_routes(
        resource_url=AnyHttpUrl(oauth.audience),
        authorization_servers=[AnyHttpUrl(oauth.issuer)],
        scopes_supported=list(oauth.scopes) or None,
    )


def _config(opening: Opening, plan: HttpPlan) -> Config:
    return Config(
        partial(make_app, opening, plan),
        factory=True,
        workers=plan.workers,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        h11_max_incomplete_event_size=_LONGEST_HEAD,
        timeout_keep_alive=max(1, round(plan.settings.slow)),
        timeout_graceful_shutdown=_LAST_SECONDS,
        timeout_worker_healthcheck=_START_SECONDS,
        reset_contextvars=True,
    )


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
