"""The SDK's OAuth client over our file of logins; loaded when a server asks for a login.

The SDK forgets when a stored token ends and who issued it, so that after a restart it would refresh
at the wrong place; both are kept here. It reads the file once, while other processes renew what is
in it: ``Stored.take_over`` reads it again. Source: the authorization part of the MCP specification.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import TypeVar

from mcp.client.auth import OAuthClientProvider, OAuthFlowError
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)
from pydantic import AnyUrl, BaseModel, ValidationError

from corral.jsontypes import JsonObject
from corral.tools.oauth.logins import LoginFile, Person
from corral.tools.oauth.settings import OAuthEntry
from corral.tools.text import one_line

logging.getLogger("mcp.client.auth").disabled = True  # it writes what servers answer, tokens too
logging.getLogger("mcp.client.auth.oauth2").disabled = True

_M = TypeVar("_M", bound=BaseModel)
_ANYWHERE = "http://127.0.0.1/callback"


class LoginNeededError(OAuthFlowError):
    """Nobody is there to log in."""


def open_login(file: LoginFile, entry: OAuthEntry, person: Person | None = None) -> Stored:
    """The login at a server. Without a ``person`` a missing one raises ``LoginNeededError``."""
    storage = Stored(file, entry)
    scope = " ".join(entry.scopes) or None
    if entry.unattended:
        provider: OAuthClientProvider = ClientCredentialsOAuthProvider(
            file.url,
            storage,
            entry.client_id or "",
            entry.client_secret or "",
            scope=scope,
            issuer=entry.issuer,
        )
    else:
        to = person or Person(_ANYWHERE, _nobody, _nothing)
        secret = "client_secret_basic" if entry.client_secret else None
        provider = OAuthClientProvider(
            file.url,
            OAuthClientMetadata(
                client_name="Corral",
                redirect_uris=[AnyUrl(to.redirect_uri)],
                token_endpoint_auth_method=secret,
                scope=scope,
            ),
            storage,
            to.show,
            partial(_brought, to),
            client_metadata_url=entry.client_metadata_url,
        )
    storage.bind(provider)
    return storage


async def _nobody(_url: str) -> None:
    raise LoginNeededError("it wants a person to log in")


async def _brought(person: Person) -> AuthorizationCodeResult:
    fields = await person.returned()
    if "code" not in fields:
        raise OAuthFlowError(f"it was refused ({one_line(fields.get('error', ''), 80)})")
    return AuthorizationCodeResult(
        code=fields["code"], state=fields.get("state"), iss=fields.get("iss")
    )


async def _nothing() -> Mapping[str, str]:
    raise LoginNeededError("it wants a person to log in")


class Stored:
    """A login as its file has it. Implements the SDK's ``TokenStorage``."""

    def __init__(self, file: LoginFile, entry: OAuthEntry) -> None:
        """Not for callers: use ``open_login``."""
        self.file = file
        self._entry = entry
        self.provider: OAuthClientProvider

    def bind(self, provider: OAuthClientProvider) -> None:
        """Keep the login of this provider, which gets back what was found out when it was made."""
        self.provider = provider
        self._give_back(self.file.read())

    def take_over(self) -> bool:
        """Go on with what the file has now; whether that is another token, which can be used."""
        context, kept = self.provider.context, self.file.read()
        before, now = context.current_tokens, _read(OAuthToken, kept.get("tokens"))
        if now == before:
            return False
        self._give_back(kept)
        context.current_tokens = now
        return context.is_token_valid()

    def _give_back(self, kept: JsonObject) -> None:
        context, ends = self.provider.context, kept.get("expires_at")
        context.token_expiry_time = float(ends) if isinstance(ends, int | float) else None
        context.oauth_metadata = _read(OAuthMetadata, kept.get("issuer"))
        context.protected_resource_metadata = _read(ProtectedResourceMetadata, kept.get("resource"))
        if (resource := context.protected_resource_metadata) is not None:
            context.auth_server_url = str(resource.authorization_servers[0])

    async def get_tokens(self) -> OAuthToken | None:
        """The tokens of the last login."""
        return _read(OAuthToken, self.file.read().get("tokens"))

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep new tokens, when they end, and who issued them."""
        ends = None if tokens.expires_in is None else time.time() + tokens.expires_in
        context = self.provider.context
        self.file.update(
            tokens=_plain(tokens),
            expires_at=ends,
            issuer=_plain(context.oauth_metadata),
            resource=_plain(context.protected_resource_metadata),
        )

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """The client as it was registered: by the user, or by Corral."""
        entry = self._entry
        if entry.client_id is None:
            return _read(OAuthClientInformationFull, self.file.read().get("client"))
        method = "client_secret_basic" if entry.client_secret else "none"
        return OAuthClientInformationFull(
            client_id=entry.client_id,
            client_secret=entry.client_secret,
            token_endpoint_auth_method=method,
            issuer=entry.issuer,
        )

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Keep how Corral was registered."""
        self.file.update(client=_plain(client_info))


def _plain(model: BaseModel | None) -> object:
    return None if model is None else model.model_dump(mode="json", exclude_none=True)


def _read(kind: type[_M], data: object) -> _M | None:
    try:
        return None if data is None else kind.model_validate(data)
    except ValidationError:
        return None
