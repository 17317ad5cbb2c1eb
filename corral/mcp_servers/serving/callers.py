"""Who is calling: the transport's word for it, and what the client says of itself.

A session's id is nobody's identity. Over HTTP it is the token; on standard input and output it is
whoever started the process. The name that a client gives itself only keeps clients of one person
apart.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import mcp_types as types
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.context import ServerRequestContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from corral.mcp_servers.serving.contract import Asking, Caller
from corral.mcp_servers.serving.sessions import recalled
from corral.tools.text import one_line

Door = Literal["stdio", "http"]
"""By which way a client has come."""

TASKS = "io.modelcontextprotocol/tasks"
"""The tasks extension (SEP-2663)."""

Context = ServerRequestContext[Any, Any]

_LONGEST_NAME = 80
_READ = 4 * _LONGEST_NAME
"""Characters of what a client says of itself that are looked at."""


def caller_of(ctx: Context, door: Door) -> Caller:
    """The caller of a request. Over HTTP it must carry the identity that its token was given."""
    name, version = _client(ctx)
    capabilities = ctx.session.client_capabilities or types.ClientCapabilities()
    modern = is_modern(ctx)
    return Caller(
        owner=f"stdio:{name}" if door == "stdio" else _owner(ctx, name),
        client=name,
        version=version,
        asks=_asking(ctx, capabilities.elicitation),
        takes_tasks=modern and TASKS in (capabilities.extensions or {}),
    )


def is_modern(ctx: Context) -> bool:
    """Whether the request is of the protocol without a handshake (2026-07-28)."""
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def _client(ctx: Context) -> tuple[str, str]:
    params = ctx.session.client_params
    if params is not None:
        info = params.client_info
        return _named(info.name), _shown(info.version[:_READ])
    name, version = recalled(ctx.request) or ("", "")
    return _named(name), _shown(version[:_READ])


def _named(name: str) -> str:
    return _shown(name[:_READ]) or "unknown"


@lru_cache(maxsize=256)
def _shown(text: str) -> str:
    return one_line(text, _LONGEST_NAME)


def is_local(ctx: Context, door: Door) -> bool:
    """Whether a request is of the person at this machine, who may read where things are on it.

    Over HTTP that is whoever has this machine's own token; one with an issued token may be anybody.
    """
    return door == "stdio" or _issued_to(ctx) is None


def _owner(ctx: Context, name: str) -> str:
    return _issued_to(ctx) or f"local:{name}"


def _issued_to(ctx: Context) -> str | None:
    """Whom the token of an authorization server is for; ``None`` with this machine's own token."""
    user = ctx.request.scope.get("user") if ctx.request is not None else None
    if not isinstance(user, AuthenticatedUser):
        raise PermissionError("a request came in by HTTP without an identity")
    token = user.access_token
    if token.subject is None:
        return None
    # An issuer has no fragment (RFC 8414), so that no two subjects of two issuers are the same.
    return f"oauth:{(token.claims or {}).get('iss')}#{token.subject}"


def _asking(ctx: Context, capability: types.ElicitationCapability | None) -> Asking:
    if capability is None or (capability.form is None and capability.url is not None):
        return "none"
    if is_modern(ctx):
        return "rounds"
    return "push" if ctx.session.can_send_request else "none"
