"""What the ``web`` server is started with: its network, and the libraries that it uses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from corral.errors import ConfigError
from corral.sandbox.contract import Grant, MiB
from corral.sandbox.network.rules import Network, NetworkRule, parse
from corral.tools.addition import Addition, Basis, library_folders, package_folders
from corral.tools.settings import SearchSettings, WebSettings
from corral.version import VERSION

_LIBRARIES = ("httpx2", "protego", "trafilatura")
_METHODS = ("GET", "HEAD")
_PORTS = (80, 443)
_NAMES_PORT = re.compile(r":[0-9,]+$")
_PROVIDERS = {
    "searxng": ("", "SEARXNG_API_KEY", "Authorization"),
    "brave": ("https://api.search.brave.com", "BRAVE_API_KEY", "X-Subscription-Token"),
    "tavily": ("https://api.tavily.com", "TAVILY_API_KEY", "Authorization"),
}
"""Where each provider is, the variable that holds its key, and the header that carries it."""


def web_addition(settings: WebSettings, environ: Mapping[str, str] = os.environ) -> Addition:
    """The network of ``[web]`` and all that the server is told. Raises ``ConfigError``."""
    rules = tuple(_rules(settings))
    packages = package_folders(*_LIBRARIES)
    search = None if settings.search.provider == "none" else _search_url(settings.search)
    asked = () if search is None else (_search_rule(settings.search, search, environ),)
    return Addition(
        config={
            "agent": f"Corral/{VERSION}",
            "rules": [[rule.host, list(rule.ports), rule.private] for rule in rules],
            "robots": settings.robots,
            "max_bytes": int(settings.max_mb * MiB),
            "search": search and {"provider": settings.search.provider, "url": search},
            "packages": [str(folder) for folder in packages],
        },
        grants=tuple(Grant(folder) for folder in packages),
        network=Network((*rules, *asked)),
        basis=Basis(contents=library_folders()),
    )


def private_hosts(settings: WebSettings) -> tuple[str, ...]:
    """The hosts of the own network that the web server may reach. Raises ``ConfigError``."""
    hosts = (rule.host for rule in _rules(settings) if rule.private)
    return tuple(f"[{host}]" if ":" in host else host for host in hosts)


def _rules(settings: WebSettings) -> Iterator[NetworkRule]:
    for texts, private in ((settings.allow, False), (settings.private, True)):
        for text in texts:
            if len(text.split()) != 1:
                raise ConfigError(
                    f"[web] names {text!r}, which is no host.",
                    hint='Write a host, or host:port, as in "docs.python.org".',
                )
            rule = parse(text)
            ports = rule.ports if _NAMES_PORT.search(text) else _PORTS
            yield NetworkRule(rule.host, ports, _METHODS, private)


def _search_url(search: SearchSettings) -> str:
    url = search.url or _PROVIDERS[search.provider][0]
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"[web.search] needs the address of {search.provider}.",
            hint='Write it in `url`, as in url = "https://searx.example.org".',
        )
    return url.rstrip("/")


def _search_rule(search: SearchSettings, url: str, environ: Mapping[str, str]) -> NetworkRule:
    """The provider's host; its key is in the rule, for the proxy alone."""
    parts = urlsplit(url)
    _, variable, header = _PROVIDERS[search.provider]
    variable = search.api_key_env or variable
    key = environ.get(variable, "")
    if not key and (search.provider != "searxng" or search.api_key_env):
        raise ConfigError(
            f"Searching with {search.provider} needs a key, and {variable} is not set.",
            hint=f"Set {variable}, or name another variable in api_key_env under [web.search].",
        )
    value = f"Bearer {key}" if header == "Authorization" else key
    return NetworkRule(
        parse(parts.hostname or "").host,
        (parts.port or (443 if parts.scheme == "https" else 80),),
        ("POST",) if search.provider == "tavily" else _METHODS,
        private=search.url is not None,
        inject={header: value} if key else {},
    )
