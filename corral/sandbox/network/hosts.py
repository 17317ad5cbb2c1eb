"""Host names as they are written in URLs and rules, brought to one spelling.

What is odd is refused, not guessed at: a filter and a resolver that read a name in different ways
are how allow-lists are passed. Source: the URL standard, "host parsing" (whatwg.org).
"""

from __future__ import annotations

import ipaddress
import re

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[0-9]{1,5}")
_LONGEST = 253


class OddHostError(ValueError):
    """A host or port is not spelled as one; the text says what is wrong."""


def canonical_host(text: str) -> str:
    """The one spelling of a host: lower case, IDNA, no trailing dot; an address without brackets.

    Raises ``OddHostError``, also for the addresses that resolvers understand and people do not:
    ``2130706433``, ``0x7f.1``, ``127.1``, ``fe80::1%eth0``.
    """
    if text.startswith("[") and text.endswith("]"):
        return _ipv6(text[1:-1])
    if ":" in text:
        return _ipv6(text)
    name = text.removesuffix(".").lower()
    if not name.isascii():
        name = _encoded(name)
    if len(name) > _LONGEST or not all(map(_LABEL.fullmatch, name.split("."))):
        raise OddHostError("it names no host")
    if _NUMERIC.fullmatch(name.rpartition(".")[2]):
        return _ipv4(name)
    return name


def split_authority(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of ``HOST``, ``HOST:PORT`` or ``[ADDRESS]:PORT``; the host as it is written.

    Raises ``OddHostError``, also where there is a user name.
    """
    if text.startswith("["):
        host, closing, rest = text.partition("]")
        host += closing
    else:
        host, colon, port = text.partition(":")
        rest = colon + port
    if not rest:
        return host, default_port
    number = rest[1:]
    if rest[0] != ":" or not _PORT.fullmatch(number) or not 0 < int(number) < 2**16:
        raise OddHostError("it has no usable port")
    return host, int(number)


def authority(host: str, port: int, default_port: int) -> str:
    """Host and port as they stand in a URL; the default port is left out."""
    name = f"[{host}]" if ":" in host else host
    return name if port == default_port else f"{name}:{port}"


def _ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise OddHostError("it is no IPv6 address") from None
    if address.scope_id is not None:
        raise OddHostError("an address with a zone names an interface of this machine")
    return str(address)


def _ipv4(name: str) -> str:
    try:
        return str(ipaddress.IPv4Address(name))
    except ValueError:
        raise OddHostError("an IPv4 address is written as four decimal numbers") from None


def _encoded(name: str) -> str:
    import idna  # its tables are large, and few names need them

    try:
        return idna.encode(name, uts46=True).decode()
    except idna.IDNAError:
        raise OddHostError("it is no international host name") from None
