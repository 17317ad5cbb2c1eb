"""Who may come in by HTTP: the names we are reached by, the pages that may call, and the token.

A page in a browser can send requests to loopback under a name of its own (DNS rebinding). So every
request, whatever its path and whatever address we listen on, must name us by a name that we go by,
and no page may call unless it is listed.
"""

from __future__ import annotations

import hmac
import os
import secrets
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from corral.errors import ConfigError
from corral.runtime.models.local.states.key import load_key

_LEAST_TOKEN = 32


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Names:
    """Refuses requests that name us by another name, or come from a page that is not listed."""

    def __init__(self, app: ASGIApp, hosts: list[str], origins: list[str]) -> None:
        self._app = app
        self._check = TransportSecurityMiddleware(
            TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or answer 421 for a wrong host and 403 for a wrong origin."""
        if scope["type"] == "http":
            refusal = await self._check.validate_request(Request(scope, receive))
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def names_of(host: str, port: int, others: tuple[str, ...]) -> list[str]:
    """What a ``Host`` header may say. ``others`` are names without or with a port."""
    own = ["127.0.0.1", "localhost", "[::1]"] if is_loopback(host) else []
    return [*(f"{name}:{port}" for name in own), *others, *(f"{name}:{port}" for name in others)]


@dataclass(frozen=True)
class LocalToken:
    """A token that the person at this machine has, and nobody else. Not shown in a ``repr``."""

    secret: str

    def __repr__(self) -> str:
        return "LocalToken(…)"

    async def verify_token(self, token: str) -> AccessToken | None:
        """Whoever has it is the person at this machine; compared in constant time."""
        given, own = token.encode("utf-8", "replace"), self.secret.encode()
        if not hmac.compare_digest(given, own):
            return None
        return AccessToken(token="", client_id="local", scopes=[])


def local_token(variable: str | None) -> LocalToken:
    """The token in an environment variable, or, without one, a random one for this run.

    Raises ``ConfigError`` for a variable that is not set, or holds too little to be a secret.
    """
    if variable is None:
        return LocalToken(secrets.token_urlsafe(32))
    secret = os.environ.get(variable, "")
    if len(secret) < _LEAST_TOKEN:
        raise ConfigError(
            f"[serve] token_env: the variable {variable} holds no token.",
            hint=f"Set it to at least {_LEAST_TOKEN} random characters, or leave token_env out.",
        )
    return LocalToken(secret)


def serving_folder(home: Path) -> Path:
    """Where the secrets of serving are, for their owner only."""
    folder = home / "serve"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def shared_key(home: Path) -> bytes:
    """The key of this machine's servers, made once. Raises ``OSError``."""
    return load_key(serving_folder(home))
