"""What a request asks for, and whether a rule lets it through. Refusals say what would allow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import h11

from corral.sandbox.network.hosts import (
    OddHostError,
    authority,
    canonical_host,
    split_authority,
)
from corral.sandbox.network.rules import Network, NetworkRule

_PORTS = {"http": 80, "https": 443}


class RefusedError(Exception):
    """A request is answered by the proxy itself: an HTTP status, and why in words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Tunnel:
    """Where a CONNECT leads, and what is spoken in it: ``https`` or ``http``."""

    host: str
    port: int
    scheme: str


@dataclass(frozen=True)
class Wanted:
    """One request, understood. ``target`` is the path with the query; empty for CONNECT."""

    scheme: str
    host: str
    port: int
    method: str
    target: str = ""

    @property
    def path(self) -> str:
        """The path alone: queries hold what a journal must not."""
        return self.target.partition("?")[0]

    @property
    def authority(self) -> str:
        """What the Host header has to be."""
        return authority(self.host, self.port, _PORTS.get(self.scheme, 0))


def wanted_of(request: h11.Request, tunnel: Tunnel | None) -> Wanted:
    """What a request asks for, on the proxy's own port or inside of a tunnel.

    Raises ``RefusedError`` for one that could be understood in two ways.
    """
    _check_framing(request)
    method, target = request.method.decode(), request.target.decode()
    try:
        if tunnel is None and method == "CONNECT":
            host, port = split_authority(target, 0)
            return _with_port(Wanted("connect", canonical_host(host), port, method))
        found = _in_tunnel(method, target, tunnel) if tunnel else _absolute(method, target)
        _check_host(request, found)
    except OddHostError as error:
        raise RefusedError(400, f"The request's host is not usable: {error}.") from None
    return found


def judge(network: Network, wanted: Wanted, setting: str) -> NetworkRule:
    """The rule that lets a request through. Raises ``RefusedError``."""
    rules = rules_for(network, wanted, setting)
    for rule in rules:
        if not rule.methods or wanted.method in rule.methods:
            _check_secrets(rule, wanted)
            return rule
    methods = ", ".join(dict.fromkeys(method for rule in rules for method in rule.methods))
    raise RefusedError(
        403,
        f"{wanted.method} to {wanted.host}:{wanted.port} is not allowed, only {methods}. "
        f"To allow it, add the method to the host's entry in {setting}.",
    )


def rules_for(network: Network, wanted: Wanted, setting: str) -> Sequence[NetworkRule]:
    """The rules that speak of a request's host. Raises ``RefusedError`` when there is none."""
    if found := network.rules_for(wanted.host, wanted.port):
        return found
    where = authority(wanted.host, wanted.port, 443)
    raise RefusedError(
        403,
        f"{wanted.host}:{wanted.port} may not be reached from this sandbox. "
        f'To allow it, add "{where}" to {setting}.',
    )


def _check_secrets(rule: NetworkRule, wanted: Wanted) -> None:
    if rule.inject and wanted.scheme != "https" and not rule.private:
        raise RefusedError(
            403, f"Requests to {wanted.host} carry credentials, so they go over https only."
        )


def _check_framing(request: h11.Request) -> None:
    names = [name for name, _ in request.headers]
    if b"transfer-encoding" in names and b"content-length" in names:
        raise RefusedError(400, "The request has two lengths.")
    if b"transfer-encoding" in names and request.http_version == b"1.0":
        raise RefusedError(400, "A request of HTTP/1.0 has no chunks.")


def _absolute(method: str, target: str) -> Wanted:
    scheme, mark, rest = target.partition("://")
    if not mark or scheme.lower() != "http":
        raise RefusedError(400, "This is a proxy: ask for http://HOST/PATH, or use CONNECT.")
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    host, port = split_authority(rest[:end], 80)
    path = rest[end:]
    return Wanted("http", canonical_host(host), port, method, _origin_form(path))


def _origin_form(path: str) -> str:
    if "#" in path:
        raise RefusedError(400, "The request's address has a fragment.")
    return path if path.startswith("/") else f"/{path}"


def _in_tunnel(method: str, target: str, tunnel: Tunnel) -> Wanted:
    if method == "CONNECT" or not target.startswith("/"):
        raise RefusedError(400, "Inside of a tunnel a request names its path alone.")
    return Wanted(tunnel.scheme, tunnel.host, tunnel.port, method, _origin_form(target))


def _with_port(wanted: Wanted) -> Wanted:
    if not wanted.port:
        raise RefusedError(400, "CONNECT needs a host and a port.")
    return wanted


def _check_host(request: h11.Request, wanted: Wanted) -> None:
    for name, value in request.headers:
        if name != b"host":
            continue
        host, port = split_authority(value.decode("latin-1"), _PORTS[wanted.scheme])
        if (canonical_host(host), port) != (wanted.host, wanted.port):
            raise RefusedError(
                400, f"The Host header names another host than {wanted.host}:{wanted.port}."
            )
