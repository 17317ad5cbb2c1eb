"""Where a hosted model answers, and which key may go there.

A key goes only where its owner sent it: ``OPENAI_API_KEY`` to OpenAI or to the address in
``OPENAI_BASE_URL`` (likewise for Anthropic). An address from a model reference or from a
configuration file, which may come with somebody else's project, gets ``CORRAL_API_KEY`` or none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from corral.errors import ConfigError, NotFoundError
from corral.runtime.models.hosted.known_models import Provider

CUSTOM_KEY = "CORRAL_API_KEY"
"""The variable whose key goes to an address that the user has named."""


@dataclass(frozen=True)
class _Service:
    url: str
    key: str
    urls: tuple[str, ...]
    proxy: str


_SERVICES: Mapping[Provider, _Service] = {
    "openai": _Service(
        url="https://api.openai.com/v1",
        key="OPENAI_API_KEY",
        urls=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        proxy="OPENAI_PROXY",
    ),
    "anthropic": _Service(
        url="https://api.anthropic.com",
        key="ANTHROPIC_API_KEY",
        urls=("ANTHROPIC_BASE_URL", "ANTHROPIC_API_URL"),
        proxy="ANTHROPIC_PROXY",
    ),
}


@dataclass(frozen=True)
class Endpoint:
    """One hosted model: ``model`` as its provider names it, at ``base_url``.

    ``key`` may be empty where none is needed; ``key_variable`` is where it is looked for.
    ``official`` says that this is the provider's own service, for which prices are known.
    """

    provider: Provider
    model: str
    base_url: str
    key: str = field(repr=False)
    key_variable: str
    official: bool
    proxy: str | None = field(default=None, repr=False)


def find_endpoint(
    provider: Provider, model: str, base_url: str | None, environ: Mapping[str, str]
) -> Endpoint:
    """The endpoint of ``NAME`` or ``NAME@URL``; a URL in ``model`` wins over ``base_url``.

    Without either, the provider's own variables in ``environ`` name the address. Raises
    ``NotFoundError`` without a model name, ``ConfigError`` for a URL that cannot be used and for
    a missing or unusable key.
    """
    service = _SERVICES[provider]
    name, named = _split_reference(provider, model)
    named = named or base_url
    inherited = next((environ[name] for name in service.urls if environ.get(name)), None)
    url = (named or inherited or service.url).rstrip("/")
    official = _checked(url)[:2] == urlsplit(service.url)[:2]
    variable = service.key if official or not named else CUSTOM_KEY
    key = environ.get(variable, "").strip()
    if official and not key:
        raise ConfigError(
            f"{variable} is not set, so {provider}:{name} cannot be used.",
            hint=f"Set {variable} to your key, or use a local model: --model local",
        )
    if not re.fullmatch(r"[!-~]*", key):
        raise ConfigError(
            f"{variable} holds spaces, line breaks or letters that no key has.",
            hint="Set it again; a copied key often brings a line break along.",
        )
    return Endpoint(
        provider=provider,
        model=name,
        base_url=url,
        key=key,
        key_variable=variable,
        official=official,
        proxy=environ.get(service.proxy) or None if official else None,
    )


def _split_reference(provider: Provider, model: str) -> tuple[str, str | None]:
    """Name and URL; an ``@`` is part of the name unless a URL follows it."""
    found = re.fullmatch(r"(?P<name>[^@]*)@(?P<url>[a-z+]+://.*|localhost.*|[\d.]+:\d+.*)", model)
    name, url = (found["name"], found["url"]) if found else (model, None)
    if not name.strip():
        raise NotFoundError(
            f"{provider}: names no model.",
            hint=f"Write the model's name after the colon, as in {provider}:NAME",
        )
    return name, url


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        parts, usable = SplitResult("", "", "", "", ""), False
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"The model's URL at {parts.hostname} holds a user name or a password.",
            hint=f"Take it out of the URL and set {CUSTOM_KEY} instead.",
        )
    if not usable or parts.query or parts.fragment:
        raise ConfigError(
            f"{_printable(url)!r} is not the base URL of a model server.",
            hint="It looks like http://127.0.0.1:8080/v1",
        )
    return parts


def _printable(url: str) -> str:
    """``url`` without the parts in which people put secrets."""
    return re.sub(r"//[^/]*@", "//", re.split(r"[?#]", url)[0])
