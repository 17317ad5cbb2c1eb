"""One tool server as the user configures it: an entry ``[mcp.NAME]`` of ``corral.toml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from corral.errors import ConfigError
from corral.sandbox.network.rules import Network, parse_all
from corral.tools.contract import SEPARATOR, CallOptions
from corral.tools.oauth.settings import OAuthEntry
from corral.tools.settings import SandboxLimits

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_NOT_INJECTED = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}
)
_FOR_A_COMMAND = frozenset(
    {"args", "env", "grants", "writable", "network", "inject", "limits", "sandbox"}
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


class ServerConfig(BaseModel):
    """How one MCP server is started (``command``) or reached (``url``), and what it may see.

    ``env``, ``headers`` and ``inject`` may hold ``${VAR}`` and ``${VAR:-default}``; ``expanded``
    fills them in. A ``command`` runs in the sandbox. It sees the system, its own program, and of
    the user's files only ``grants`` (readable) and ``writable``; a relative folder starts at the
    folder in which Corral works. It reaches only what ``network`` names. Times are in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str | None = Field(
        default=None, min_length=1, description="The program to start, without a shell."
    )
    args: tuple[str, ...] = Field(default=(), description="Its arguments.")
    env: dict[str, str] = Field(
        default_factory=dict, repr=False, description="Its environment; ${VAR} is filled in."
    )
    url: str | None = Field(default=None, description="The address of a streamable HTTP server.")
    headers: dict[str, str] = Field(
        default_factory=dict,
        repr=False,
        description="Sent with every request; ${VAR} is filled in.",
    )
    trust: bool = Field(
        default=False,
        description="Whether what the server says about its tools (read-only, idempotent) counts.",
    )
    timeout: Seconds = Field(
        default=CallOptions.timeout, description="How long one call may take, in seconds."
    )
    startup_timeout: Seconds = Field(
        default=30.0, description="How long starting and listing may take, in seconds."
    )
    grants: tuple[str, ...] = Field(default=(), description="Folders that it may read.")
    writable: tuple[str, ...] = Field(default=(), description="Folders that it may change.")
    network: tuple[str, ...] = Field(
        default=(),
        description="Hosts that it may reach: api.github.com, *.example.com:443 GET,HEAD, or "
        "localhost:8080 private for one of the own network.",
    )
    inject: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        repr=False,
        description="Headers that are added to its requests to a host outside of the sandbox; "
        "${VAR} is filled in, and the server never sees it.",
    )
    limits: SandboxLimits = Field(
        default=SandboxLimits(), description="As [sandbox_limits], for this server."
    )
    sandbox: bool = Field(
        default=True, description="False runs the command unconfined, with your own rights."
    )
    sampling: bool = Field(
        default=False,
        description="Whether it may ask the agent's model; that counts in the run's budget.",
    )
    oauth: OAuthEntry = Field(
        default=OAuthEntry(), repr=False, description="How to log in at a url."
    )

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http or https address")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must not hold a user name or password; put credentials in headers")
        return value

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("needs either command or url, and not both")
        if self.url is None and self.oauth != OAuthEntry():
            raise ValueError("oauth is for a url")
        if self.url is None and self.headers:
            raise ValueError("headers are for a url; a command takes env")
        local = _FOR_A_COMMAND & self.model_fields_set
        if self.url is not None and local:
            raise ValueError(f"{', '.join(sorted(local))}: for a command, not for a url")
        if not self.sandbox and (self.network or self.inject):
            raise ValueError("network and inject are for a command in the sandbox")
        return self

    @model_validator(mode="after")
    def _reaches_what_it_says(self) -> Self:
        for host, headers in self.inject.items():
            for name in headers:
                if not _HEADER.fullmatch(name) or name.lower() in _NOT_INJECTED:
                    raise ValueError(f"inject.{host}: {name!r} is no header that can be added")
        try:
            parse_all(self.network, self.inject)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def reach(self) -> Network:
        """What it may reach, with what is added to its requests."""
        return parse_all(self.network, self.inject)

    @property
    def transport(self) -> str:
        """``stdio`` or ``http``."""
        return "stdio" if self.url is None else "http"

    def injected(self, environ: Mapping[str, str]) -> set[str]:
        """What is secret of ``inject``: its headers' values, and the variables' in them."""
        values = {value for headers in self.inject.values() for value in headers.values()}
        named = {match[1] for value in values for match in _VARIABLE.finditer(value)}
        return values | {environ[name] for name in named if name in environ}

    def limited(self, usual: SandboxLimits) -> ServerConfig:
        """This entry with the usual limits where it sets none."""
        own = self.limits.model_dump(exclude_none=True)
        return self.model_copy(update={"limits": usual.model_copy(update=own)})

    def expanded(self, environ: Mapping[str, str]) -> ServerConfig:
        """This entry with every ``${VAR}`` taken from ``environ``.

        Raises ``ConfigError`` that names the variable when it is not set and has no default.
        """
        return self.model_copy(
            update={
                "oauth": _filled(self.oauth, environ),
                "env": {k: _expand(v, environ, f"env.{k}") for k, v in self.env.items()},
                "headers": {
                    k: _header(_expand(v, environ, f"headers.{k}"), k)
                    for k, v in self.headers.items()
                },
                "inject": {
                    host: {
                        k: _header(_expand(v, environ, f"inject.{host}.{k}"), k)
                        for k, v in headers.items()
                    }
                    for host, headers in self.inject.items()
                },
            }
        )


def check_server_name(name: str) -> None:
    """Raise ``ConfigError`` unless ``name`` can be the part before ``__`` of a tool's name."""
    if not _NAME.fullmatch(name) or SEPARATOR in name or name.endswith("_"):
        raise ConfigError(
            f"{name!r} cannot name a tool server",
            hint="Use up to 32 letters, digits, - and single _, starting with a letter or digit.",
        )


def _expand(text: str, environ: Mapping[str, str], where: str) -> str:
    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        if default is not None:
            return environ.get(name) or default
        if name not in environ:
            raise ConfigError(
                f"{where} needs the environment variable {name}, which is not set",
                hint=f"Set {name}, or write ${{{name}:-default}}.",
            )
        return environ[name]

    return _VARIABLE.sub(value, text)


def _filled(oauth: OAuthEntry, environ: Mapping[str, str]) -> OAuthEntry:
    given = {"client_id": oauth.client_id, "client_secret": oauth.client_secret}
    filled = {k: _expand(v, environ, f"oauth.{k}") for k, v in given.items() if v is not None}
    return oauth.model_copy(update=filled)


def _header(value: str, name: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise ConfigError(
            f"headers.{name} holds a line break or another character that no header may hold",
            hint="Check the value of the variable that it is made from.",
        )
    return value
