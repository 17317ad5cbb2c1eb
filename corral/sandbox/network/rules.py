"""What a sandbox may reach, as data. Nothing is reached that no rule names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
