"""Addresses of pages: read strictly, so that nobody downstream takes one for something else."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from corral.mcp_servers.tool import ToolFault

MAX_LENGTH = 8_000
"""The longest address, in characters."""

_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"0x[0-9a-f]*|[0-9]+")
_LOCAL = ("localhost", "local", "internal", "intranet", "lan", "corp", "home", "private")
_IN_PATH, _IN_QUERY = "/%:@!$&'()*+,;=~", "/%:@!$&'()*+,;=~?[]"


class Address(NamedTuple):
    """One address of http or https. ``host`` is in lower case and ASCII, ``target`` is path and
    query as they are sent.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> str:
        """Scheme, host, and the port where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def url(self) -> str:
        """The whole address."""
        return self.origin + self.target

    @property
    def is_local(self) -> bool:
        """Whether the host is in the own network, as far as its name says."""
        try:
            return not ipaddress.ip_address(self.host).is_global
        except ValueError:
            labels = self.host.split(".")
            return len(labels) == 1 or labels[-1] in _LOCAL


def read_address(text: str) -> Address:
    """Read an address that a model or a page gives; its fragment is dropped.

    Raises ``ToolFault`` for all that is not plainly a page: other schemes, user names, hosts in
    odd spellings.
    """
    text = text.strip()
    if len(text) > MAX_LENGTH:
        raise ToolFault(f"The address is longer than {MAX_LENGTH} characters.")
    if "\\" in text or not text.isprintable() or any(c.isspace() for c in text):
        raise ToolFault("The address holds a space, a backslash or a control character.")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ToolFault(f"The address cannot be read: {error}.") from error
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        shown = f"{scheme}: is not a scheme" if scheme else "There is no scheme"
        raise ToolFault(f"{shown} that can be fetched: an address begins with https:// or http://.")
    if parts.username is not None or parts.password is not None:
        raise ToolFault("The address holds a user name or password; these are never sent.")
    if port == 0:
        raise ToolFault("Port 0 leads nowhere.")
    return Address(scheme, _host(parts), port or _PORTS[scheme], _target(parts))


def resolve(base: str, link: str) -> str:
    """Where a link on the page ``base`` leads, as a text that is still to be read."""
    try:
        return urljoin(base, link.strip())
    except ValueError:
        return link


def _host(parts: SplitResult) -> str:
    host = (parts.hostname or "").rstrip(".")
    if ":" in host:
        return _ipv6(host)
    if not host.isascii():
        host = _in_ascii(host)
    labels = host.split(".")
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise ToolFault(f"{host!r} is not the name of a host.")
    if _NUMERIC.fullmatch(labels[-1]) and not _is_ipv4(host):
        raise ToolFault(f"{host} is an address in an odd spelling; write it as 192.0.2.1.")
    return host


def _ipv6(host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError as error:
        raise ToolFault(f"[{host}] is not an IPv6 address.") from error
    if address.scope_id is not None or address.ipv4_mapped is not None:
        raise ToolFault(f"[{host}] is an address in an odd form; write it plainly.")
    return str(address)


def _is_ipv4(host: str) -> bool:
    try:
        return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        return False


def _in_ascii(host: str) -> str:
    import idna  # only names in other scripts need it

    try:
        return idna.encode(host, uts46=True, std3_rules=True).decode("ascii")
    except UnicodeError as error:
        raise ToolFault(f"{host!r} is not the name of a host.") from error


def _target(parts: SplitResult) -> str:
    """Path and query as they are sent, without segments that go up."""
    query = f"?{quote(parts.query, safe=_IN_QUERY)}" if parts.query else ""
    return _without_dots(quote(parts.path, safe=_IN_PATH)) + query


def _without_dots(path: str) -> str:
    *folders, last = path.split("/")[1:] or [""]
    kept: list[str] = []
    for segment in (*folders, last):
        match segment.lower().replace("%2e", "."):
            case "..":
                del kept[-1:]
            case ".":
                continue
            case _:
                kept.append(segment)
    ends_open = last.lower().replace("%2e", ".") in {".", ".."}
    return "/" + "/".join((*kept, "") if ends_open else kept)
