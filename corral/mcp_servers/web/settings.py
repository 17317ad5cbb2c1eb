"""What the web server was told on its command line: where it may go, and how it behaves."""

from __future__ import annotations

import json
from typing import NamedTuple

from corral.mcp_servers.tool import JsonObject, ToolFault
from corral.mcp_servers.web.addresses import Address

_SHOWN = 5


class Rule(NamedTuple):
    """One host that may be reached: exactly, ``*.example.com`` for all below it, or ``*``."""

    host: str
    ports: tuple[int, ...]
    private: bool

    def covers(self, address: Address) -> bool:
        """Whether an address is one of these."""
        if address.port not in self.ports:
            return False
        if self.host.startswith("*."):
            return address.host.endswith(self.host[1:])
        if self.host == "*":
            return not address.is_local
        return self.host == address.host


class Search(NamedTuple):
    """Who is asked for searches: a provider's name and address."""

    provider: str
    url: str


class Settings(NamedTuple):
    """``[web]``, as far as it matters inside. The proxy holds the rules, too, and keeps them."""

    agent: str = "Corral"
    rules: tuple[Rule, ...] = ()
    robots: bool = True
    max_bytes: int = 10 * 1024 * 1024
    search: Search | None = None
    packages: tuple[str, ...] = ()

    def check(self, address: Address) -> Rule:
        """The rule that allows an address. Raises ``ToolFault`` that says what to allow, and where.

        The search provider is no page: its key would be put into the request.
        """
        if self.search is not None and self.search.url.startswith(address.origin):
            raise ToolFault(f"{address.host} answers searches: ask it with the tool search.")
        found = [rule for rule in self.rules if rule.covers(address)]
        if not found:
            raise ToolFault(self._refusal(address))
        return next((rule for rule in found if rule.private), found[0])

    def _refusal(self, address: Address) -> str:
        where = f"{address.host}:{address.port}"
        if address.is_local:
            name, entry = "private", where
            given = [f"{rule.host}:{rule.ports[0]}" for rule in self.rules if rule.private]
        else:
            name, entry = "allow", address.host if address.port in (80, 443) else where
            given = [rule.host for rule in self.rules if not rule.private]
        listed = ", ".join(json.dumps(one) for one in (*given[:_SHOWN], entry))
        more = "" if len(given) <= _SHOWN else " and what else is there now"
        return (
            f"{where} was not visited: the web server may not go there. Only the user can allow "
            f"it, in their own configuration file:\n\n[web]\n{name} = [{listed}]{more}\n\n"
            "Go on without this page, or ask the user for it."
        )


def settings_of(given: JsonObject) -> Settings:
    """The settings as ``--config`` gives them; without any, nothing can be reached."""
    if not given:
        return Settings()
    search = given["search"]
    return Settings(
        agent=given["agent"],
        rules=tuple(Rule(host, tuple(ports), private) for host, ports, private in given["rules"]),
        robots=given["robots"],
        max_bytes=given["max_bytes"],
        search=Search(search["provider"], search["url"]) if search else None,
        packages=tuple(given["packages"]),
    )
