"""Tokens of an OAuth 2.1 authorization server: this is a resource server, and issues none.

A token counts if it is a JWT (RFC 9068) that the issuer has signed, for this server as its audience
(RFC 8707), and has not run out. Tokens for anybody else are refused, and none is passed on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx2
import jwt
import structlog
from jwt import PyJWK, PyJWKSet
from jwt.exceptions import PyJWTError
from mcp.server.auth.provider import AccessToken

from corral.errors import ConfigError
from corral.runtime.serve_settings import OAuthSettings

_log = structlog.get_logger(__name__)

_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""Signatures only: a shared secret (HS256) or none at all is never accepted."""

_ACCESS_TOKENS = frozenset({"at+jwt", "application/at+jwt"})
_ANY_JWT = frozenset({"jwt", ""})
_NO_ACCESS_TOKEN = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})
"""Claims of ID and logout tokens (OpenID Connect Core 2 and 3.3.2.11, Back-Channel Logout 2.4)."""

_CLAIMS = ["exp", "iss", "aud", "sub"]
_LEEWAY = 30
_LONGEST_TOKEN = 16 * 1024
_LARGEST_ANSWER = 1 << 20
_KEYS_KEPT = 600.0
_KEYS_AGAIN = 30.0
"""Seconds between two looks for a key that is not known: a flood of made-up keys is no flood of
requests to the issuer."""

_METADATA = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")


class Keys:
    """The issuer's public keys, fetched when needed and kept for a while."""

    def __init__(
        self,
        settings: OAuthSettings,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._clock = clock
        self._fetched = float("-inf")
        self._known: dict[str, PyJWK] = {}
        self._lock = asyncio.Lock()

    async def find(self, key: str) -> PyJWK | None:
        """The key of this id. ``None`` when the issuer has none, or cannot be reached."""
        async with self._lock:
            age = self._clock() - self._fetched
            if age > _KEYS_KEPT or (key not in self._known and age > _KEYS_AGAIN):
                self._fetched = self._clock()
                await self._fetch()
            return self._known.get(key)

    async def _fetch(self) -> None:
        try:
            async with httpx2.AsyncClient(transport=self._transport, timeout=10) as client:
                found = await _json(client, self._settings.jwks or await self._discovered(client))
            keys = PyJWKSet.from_dict(found).keys
        except (httpx2.HTTPError, PyJWTError, ConfigError, ValueError, KeyError) as error:
            _log.warning("the issuer's keys cannot be had", reason=type(error).__name__)
            return
        self._known = {key.key_id: key for key in keys if key.key_id}

    async def _discovered(self, client: httpx2.AsyncClient) -> str:
        """Where the keys are, by the metadata of RFC 8414 or of OpenID Connect."""
        issuer = httpx2.URL(self._settings.issuer)
        path = issuer.path.rstrip("/")
        places = [f"{_METADATA[0]}{path}", f"{path}{_METADATA[1]}"]
        for place in places:
            try:
                metadata = await _json(client, str(issuer.copy_with(path=place)))
            except (httpx2.HTTPStatusError, ValueError):
                continue
            if metadata.get("issuer") == self._settings.issuer:
                return OAuthSettings.checked(str(metadata["jwks_uri"]))
        raise ValueError("the issuer has no metadata of its own")


class IssuedToken:
    """Verifies tokens of the configured issuer. Implements the SDK's ``TokenVerifier``."""

    def __init__(self, settings: OAuthSettings, keys: Keys | None = None) -> None:
        self._settings = settings
        self._keys = keys or Keys(settings)

    async def verify_token(self, token: str) -> AccessToken | None:
        """Who a token is for; ``None`` for one that does not count. Nothing of it is logged."""
        if len(token) > _LONGEST_TOKEN:
            return None
        try:
            claims = await self._claims(token)
        except PyJWTError as error:
            _log.info("a token was refused", reason=type(error).__name__)
            return None
        if claims is None or not claims["sub"]:
            return None
        return AccessToken(
            token="",
            client_id=str(claims.get("client_id") or claims.get("azp") or ""),
            scopes=_scopes(claims),
            expires_at=int(claims["exp"]),
            resource=self._settings.audience,
            subject=str(claims["sub"]),
            claims={"iss": self._settings.issuer},
        )

    async def _claims(self, token: str) -> dict[str, Any] | None:
        header = jwt.get_unverified_header(token)
        algorithm, name, kind = header.get("alg"), header.get("kid"), _kind(header)
        if algorithm not in _ALGORITHMS or not isinstance(name, str):
            return None
        if kind not in _ACCESS_TOKENS | _ANY_JWT:
            return None
        key = await self._keys.find(name)
        if key is None or key.algorithm_name != algorithm:
            return None
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=self._settings.audience,
            issuer=self._settings.issuer,
            leeway=_LEEWAY,
            options={"require": _CLAIMS},
        )
        return claims if kind in _ACCESS_TOKENS or _may_be_access_token(claims) else None


def _kind(header: dict[str, Any]) -> str:
    """The media type of a token, as it is compared: without regard to case (RFC 7515, 4.1.9)."""
    return str(header.get("typ") or "").lower()


def _may_be_access_token(claims: dict[str, Any]) -> bool:
    """Whether a token whose type says nothing is no other kind of the same issuer's.

    RFC 9068 (section 4) takes ``at+jwt`` alone, but many issuers write ``JWT`` or nothing; then the
    kinds must be told apart by their claims (RFC 8725, 3.12). Some issuers name the kind in one:
    Keycloak in ``typ``, Cognito in ``token_use``. Older Keycloaks put a nonce into access tokens.
    """
    if "typ" in claims:
        return str(claims["typ"]).lower() in ("bearer", *_ACCESS_TOKENS)
    if "token_use" in claims:
        return bool(claims["token_use"] == "access")  # noqa: S105  # a kind of token, and none
    return _NO_ACCESS_TOKEN.isdisjoint(claims)


def _scopes(claims: dict[str, Any]) -> list[str]:
    """RFC 8693 writes them as one text, some issuers as a list."""
    given = claims.get("scope", claims.get("scp"))
    if isinstance(given, str):
        return given.split()
    return [str(one) for one in given] if isinstance(given, list) else []


async def _json(client: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    """What an address of the issuer says. Redirections are not followed."""
    async with client.stream("GET", url) as answer:
        answer.raise_for_status()
        text = bytearray()
        async for chunk in answer.aiter_bytes():
            text += chunk
            if len(text) > _LARGEST_ANSWER:
                raise ValueError("the answer is too long")
    found = httpx2.Response(200, content=bytes(text)).json()
    if not isinstance(found, dict):
        raise ValueError("the answer is no object")
    return found
