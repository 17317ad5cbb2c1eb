"""How a login at a server is made, as its entry says it."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class OAuthEntry(BaseModel):
    """``[mcp.NAME.oauth]``. Most servers need none of it: Corral registers itself with them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client_id: str | None = Field(
        default=None, description="The client that you have registered; ${VAR} is filled in."
    )
    client_secret: str | None = Field(
        default=None, repr=False, description="Its secret, if it has one; ${VAR} is filled in."
    )
    client_metadata_url: str | None = Field(
        default=None, description="Where a document describes the client, instead of an id."
    )
    scopes: tuple[str, ...] = Field(
        default=(), description="What to ask for, where the server does not say it."
    )
    issuer: str | None = Field(
        default=None, description="Who issues the tokens; needed with `unattended`."
    )
    unattended: bool = Field(
        default=False,
        description="Log in as the client itself, with its secret (client credentials).",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.unattended and not (self.client_id and self.client_secret and self.issuer):
            raise ValueError("unattended needs client_id, client_secret and issuer")
        if self.client_secret and not self.client_id:
            raise ValueError("client_secret is of a client_id")
        return self
