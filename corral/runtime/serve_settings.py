"""Corral as a server for MCP clients, as configured under ``[serve]``."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from corral.errors import ConfigError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class OAuthSettings(BaseModel):
    """Who issues the tokens of those who come over the network, under ``[serve.oauth]``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(description="The authorization server's issuer, an https URL.")
    audience: str = Field(description="This server's own URL, as its clients know it.")
    scopes: tuple[str, ...] = Field(default=(), description="What a token must be allowed to do.")
    jwks: str | None = Field(
        default=None, description="Where its keys are; found by the issuer's metadata if left out."
    )

    @field_validator("issuer", "audience", "jwks")
    @classmethod
    def checked(cls, url: str) -> str:
        """``url``, if what is sent there is encrypted or stays here. Raises ``ConfigError``."""
        parts = urlsplit(url)
        if "#" in url or "@" in parts.netloc:
            raise ConfigError(
                f"[serve.oauth]: {parts.hostname} is named with a user or a fragment (#).",
                hint="Write the address without them (RFC 8414, RFC 8707).",
            )
        if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            return url
        raise ConfigError(
            f"[serve.oauth]: {url} is not an https URL.",
            hint="Tokens and keys cross the network only encrypted.",
        )


class ServeSettings(BaseModel):
    """How ``corral mcp serve`` treats its clients."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wait: float = Field(
        default=20.0, ge=0, le=50, description="Seconds that a call waits for an agent's answer."
    )
    idle: float = Field(
        default=300.0, gt=0, description="Seconds after which an unused run host ends."
    )
    allow: tuple[str, ...] = Field(
        default=(),
        description="Tools (globs) that `serve all` lets out; empty: all that no policy denies.",
    )
    rate: int = Field(default=600, ge=1, description="HTTP requests a minute from one caller.")
    calls: int = Field(default=64, ge=1, description="Requests of one connection at one time.")
    body: int = Field(
        default=4 * 1024 * 1024, ge=1024, description="The longest HTTP request, in bytes."
    )
    slow: float = Field(
        default=20.0, gt=0, description="Seconds in which a client must have sent its request."
    )
    hosts: tuple[str, ...] = Field(
        default=(), description="Names under which clients may reach it, beyond those of loopback."
    )
    origins: tuple[str, ...] = Field(
        default=(), description="Web pages (origins) that may call it; none by default."
    )
    token_env: str | None = Field(
        default=None, description="The variable that holds the token of loopback clients."
    )
    oauth: OAuthSettings | None = Field(
        default=None, description="Required for anything that is not loopback."
    )
