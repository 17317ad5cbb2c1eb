"""What a sandbox may reach, as data. Nothing is reached that no rule names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from corral.errors import ConfigError
from corral.sandbox.network.hosts import OddHostError, canonical_host, split_authority

_METHOD = re.compile(r"[A-Z]{1,20}")
_PRIVATE = "private"
_HINT = 'Write HOST, HOST:PORT or HOST:PORT GET,HEAD, as in "api.github.com:443 GET,HEAD".'


@dataclass(frozen=True)
class NetworkRule:
    """One host that may be reached: exactly, ``*.example.com`` for all below it, or ``*``.

    ``methods`` empty means every HTTP method; naming some, or headers to ``inject``, means that
    the proxy reads the requests, also those of https (it then ends the encryption with a
    certificate of its own that only this sandbox trusts). ``private`` lets the name lead to
    loopback, private and link-local addresses. ``inject`` holds secrets: they are added to
    requests by the proxy and never enter the sandbox.
    """

    host: str
    ports: tuple[int, ...] = (443,)
    methods: tuple[str, ...] = ()
    private: bool = False
    inject: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)

    @property
    def inspects(self) -> bool:
        """Whether the proxy has to read the requests."""
        return bool(self.methods or self.inject)

    def covers(self, host: str, port: int) -> bool:
        """Whether the rule speaks of this host (in its canonical spelling) and port."""
        if port not in self.ports:
            return False
        if self.host.startswith("*."):
            return host.endswith(self.host[1:])
        return self.host in ("*", host)


@dataclass(frozen=True)
class Forward:
    """A TCP service of the host's network, offered inside on a port of the sandbox's loopback.

    For protocols other than HTTP. ``private`` as in ``NetworkRule``.
    """

    inside_port: int
    host: str
    port: int
    private: bool = False


@dataclass(frozen=True)
class Network:
    """All that may be reached."""

    rules: tuple[NetworkRule, ...] = ()
    forwards: tuple[Forward, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rules or self.forwards)

    @property
    def inspects(self) -> bool:
        """Whether the proxy reads the requests to some host."""
        return any(rule.inspects for rule in self.rules)

    def rules_for(self, host: str, port: int) -> tuple[NetworkRule, ...]:
        """The rules for a host in its canonical spelling: those that name it most exactly."""
        found = [rule for rule in self.rules if rule.covers(host, port)]
        exactness = max((_exactness(rule) for rule in found), default=0)
        return tuple(rule for rule in found if _exactness(rule) == exactness)


def parse(text: str, inject: Mapping[str, str] | None = None) -> NetworkRule:
    """A rule as it is written in a configuration: ``HOST[:PORT,PORT] [METHOD,METHOD] [private]``.

    Raises ``ConfigError``. The port is 443 when none is named; ``private`` lets the host be one
    of the own network.
    """
    where, *words = text.split() or [""]
    is_private = _PRIVATE in words
    words = [word for word in words if word != _PRIVATE]
    if len(words) > 1:
        raise ConfigError(f"The network rule {text!r} is not understood.", hint=_HINT)
    methods = tuple(words[0].split(",")) if words else ()
    if not all(map(_METHOD.fullmatch, methods)):
        raise ConfigError(f"The network rule {text!r} names methods that are none.", hint=_HINT)
    host, ports = _where(text, where)
    return NetworkRule(host, ports, methods, is_private, dict(inject or {}))


def parse_all(
    texts: Sequence[str], inject: Mapping[str, Mapping[str, str]] | None = None
) -> Network:
    """A whole allow-list; ``inject`` holds headers by host, as the rules spell it.

    Raises ``ConfigError``, also for headers to a host that no rule names.
    """
    headers = {_host(name): values for name, values in (inject or {}).items()}
    rules = [parse(text) for text in texts]
    unnamed = sorted(headers.keys() - {rule.host for rule in rules})
    if unnamed:
        raise ConfigError(
            f"Headers are to be injected for {unnamed[0]}, which no network rule names.",
            hint=f'Add "{unnamed[0]}" to `network`, spelled in the same way.',
        )
    return Network(
        tuple(
            NetworkRule(
                rule.host, rule.ports, rule.methods, rule.private, headers.get(rule.host, {})
            )
            for rule in rules
        )
    )


def _where(text: str, where: str) -> tuple[str, tuple[int, ...]]:
    first, *more = where.split(",")
    try:
        name, port = split_authority(first, 443)
        ports = (port, *(split_authority(f"x:{one}", 0)[1] for one in more))
    except OddHostError as error:
        raise ConfigError(f"The network rule {text!r}: {error}.", hint=_HINT) from None
    return _host(name), ports


def _host(name: str) -> str:
    if name == "*":
        return name
    prefix = "*." if name.startswith("*.") else ""
    try:
        return prefix + canonical_host(name.removeprefix(prefix))
    except OddHostError as error:
        raise ConfigError(f"The network rule for {name!r}: {error}.", hint=_HINT) from None


def _exactness(rule: NetworkRule) -> int:
    """How exactly a rule names its hosts: one by name before all below a long or a short one."""
    if rule.host == "*":
        return 1
    return len(rule.host) if rule.host.startswith("*.") else 1000
