r"""URLs in the arguments of tool calls, compared by scheme, host, port and path.

Clients do not agree on what a URL means (RFC 3986, the WHATWG URL standard, what ``inet_aton``
takes for an address). So a pattern that loosens fits only a URL that all of them read alike, and
one that tightens fits if any of them may read it so.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from corral.policies.patterns.globs import compile_glob, match_segments
from corral.policies.patterns.names import last_word

MAX_LENGTH = 8_000
"""The longest URL that is read, in characters; a longer one can be anything."""

_NAMES = frozenset(
    {"url", "urls", "uri", "uris", "link", "links", "href", "endpoint", "endpoints", "webpage"}
    | {"website", "webhook"}
)
_HOST_NAMES = frozenset({"host", "hosts", "hostname", "hostnames", "domain", "domains"})
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21, "ssh": 22}
_PLAIN = re.compile(
    r"""(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://
        (?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/?\#\\@:%\[\]]+)
        (?::(?P<port>[0-9]{1,5}))?
        (?P<path>/[^\s?\#\\]*)?
        (?:\?[^\s\#\\]*)?
        (?:\#[^\s\\]*)?""",
    re.VERBOSE,
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]*):(?!\d+(?:[/?#]|$))", re.IGNORECASE)
_LOOKS_LIKE_URL = re.compile(r"\s*[a-z][a-z0-9+.-]*:[/\\]{2}", re.IGNORECASE)
DOTS = str.maketrans({"\u3002": ".", "\uff0e": ".", "\uff61": "."})
"""The signs that clients take for the dot of a host name (IDNA, RFC 3490)."""


def is_url_name(name: str) -> bool:
    """Whether an argument of this name holds a URL: ``url``, ``base_url``, ``imageUrl``."""
    return last_word(name) in _NAMES


def is_host_name(name: str) -> bool:
    """Whether an argument of this name holds a host: ``host``, ``hostname``, ``domain``."""
    return last_word(name) in _HOST_NAMES


def looks_like_url(text: str) -> bool:
    """Whether a text begins as a URL does, whatever its argument is called."""
    return _LOOKS_LIKE_URL.match(text) is not None


@dataclass(frozen=True)
class Url:
    """One reading of a URL. ``port`` is ``None`` where the scheme has no known one.

    ``host`` is in lower case and in ASCII, an address in its usual form and without brackets.
    ``segments`` are those of the path, decoded.
    """

    scheme: str
    host: str
    port: int | None
    segments: tuple[str, ...]


@lru_cache(maxsize=512)
def read_plainly(url: str) -> Url | None:
    """The one reading of a URL that every client shares; ``None`` if there may be another."""
    if len(url) > MAX_LENGTH or any(unicodedata.category(c)[0] in "CZ" for c in url):
        return None
    found = _PLAIN.fullmatch(url)
    if found is None:
        return None
    host, segments = _plain_host(found["host"]), _plain_segments(found["path"] or "")
    scheme, port = found["scheme"].lower(), int(found["port"] or 0)
    if host is None or segments is None or port > 65_535 or (found["port"] and not port):
        return None
    return Url(scheme, host, port or _PORTS.get(scheme), segments)


@lru_cache(maxsize=512)
def readings(url: str) -> tuple[Url, ...]:
    """All that some client may take a URL for."""
    plain = read_plainly(url)
    if plain is not None:
        return (plain,)
    usual = _visible(unicodedata.normalize("NFKC", url.translate(DOTS)))
    texts = dict.fromkeys((_visible(url), usual))
    return tuple(dict.fromkeys(reading for text in texts for reading in _loose_readings(text)))


def hosts_of(url: str) -> tuple[str, ...]:
    """The hosts to which a URL may lead, the likeliest first; empty if it names none."""
    return tuple(dict.fromkeys(reading.host for reading in readings(url[:MAX_LENGTH])))


@dataclass(frozen=True)
class UrlPattern:
    """A pattern of URLs. An empty ``scheme``, ``port`` or ``None`` ``path`` was not written."""

    scheme: str
    host: str
    port: str
    path: tuple[str, ...] | None


_BAD_ESCAPE = re.compile(r"\\(?![*\\])")
_PATTERN = re.compile(
    r"(?:(?P<scheme>\*|[A-Za-z][A-Za-z0-9+.-]*)://)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s/?#\\@:%\[\]]+)"
    r"(?::(?P<port>\*|[0-9]{1,5}))?"
    r"(?P<path>/[^\s?#]*)?"
)


@lru_cache(maxsize=8192)
def parse_url_pattern(pattern: str) -> UrlPattern:
    """Read a pattern. Raises ``ValueError`` that says what to write instead."""
    found = _PATTERN.fullmatch(pattern)
    if found is None:
        raise ValueError(_why_not(pattern))
    host = _pattern_host(found["host"])
    path = found["path"]
    parts = None if path is None else tuple(part for part in path[1:].split("/") if part)
    if path and ("%" in path or _BAD_ESCAPE.search(path)):
        raise ValueError(_why_not(pattern))
    if parts is not None and {".", ".."} & set(parts):
        raise ValueError(f"{pattern!r} holds '.' or '..': write the path that it leads to")
    if path and path.endswith("/") and parts:
        parts = (*parts, "**")
    return UrlPattern((found["scheme"] or "").lower(), host, found["port"] or "", parts)


def matches_url_strictly(pattern: str, url: str) -> bool:
    """Whether a URL fits a pattern that loosens.

    It must have one reading only. A pattern without a scheme means ``https``, one without a port
    the scheme's own, and one without a path the root alone.
    """
    wanted, found = parse_url_pattern(pattern), read_plainly(url[: MAX_LENGTH + 1])
    if found is None or (wanted.scheme or "https") not in ("*", found.scheme):
        return False
    if wanted.port != "*" and found.port != _wanted_port(wanted, found):
        return False
    path_fits = match_segments(wanted.path or (), found.segments)
    return path_fits and host_fits(wanted.host, found.host)


def matches_url_loosely(pattern: str, url: str) -> bool:
    """Whether a URL fits a pattern that tightens, in any reading of it.

    What the pattern does not say (scheme, port, path) may be anything.
    """
    if len(url) > MAX_LENGTH:
        return True
    wanted = parse_url_pattern(pattern)
    return any(_fits_loosely(wanted, reading) for reading in readings(url))


def host_fits(pattern: str, host: str) -> bool:
    """Whether a host fits: ``*.`` at the start is any depth of subdomains, ``*`` any host.

    Elsewhere ``*`` stays within a label. Both are written as in ``Url.host``.
    """
    if pattern == "*":
        return True
    if ":" in pattern or ":" in host:
        return pattern == host
    wanted, labels = pattern.split("."), host.split(".")
    if wanted[0] == "*":
        labels = labels[-len(wanted) + 1 :] if len(labels) >= len(wanted) else []
        wanted = wanted[1:]
    return len(wanted) == len(labels) and all(
        compile_glob(part).matches(label) for part, label in zip(wanted, labels, strict=True)
    )


def read_host(text: str) -> tuple[str | None, tuple[str, ...]]:
    """A host as it is written: its one plain reading, if it has one, and all loose ones."""
    plain = _plain_host(text)
    loose = tuple(host for host, _ in _authorities(_visible(unicodedata.normalize("NFKC", text))))
    return plain, loose


def _plain_host(host: str) -> str | None:
    """A host that every client reads alike: a name without oddities, or a usual address."""
    if host.startswith("["):
        return _address(host[1:-1])
    name = host.lower()
    if not name.isascii():
        name = _to_ascii(name) or ""
    labels = name.split(".")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        return None
    if _NUMBER.fullmatch(labels[-1]):
        return name if _address(name) == name else None
    return name


def _to_ascii(name: str) -> str | None:
    """A name in ASCII, if the old and the new rules for it agree (IDNA 2003 and 2008)."""
    import idna

    if name != unicodedata.normalize("NFKC", name.translate(DOTS)):
        return None
    try:
        new = idna.encode(name).decode("ascii")
        old = name.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    return new if new == old else None


def _address(text: str) -> str | None:
    """An address in its usual form; one of IPv4 within IPv6 as IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address)


def _plain_segments(path: str) -> tuple[str, ...] | None:
    """The decoded segments of a path, or ``None`` where servers may read another path."""
    if _PERCENT.search(path):
        return None
    segments = tuple(map(unquote, path[1:].split("/")))
    if segments[-1] == "":
        segments = segments[:-1]
    return None if any(map(_is_odd_segment, segments)) else segments


def _is_odd_segment(segment: str) -> bool:
    """A segment that is empty, goes up, has parameters or is encoded more than once."""
    hidden = any(unicodedata.category(c)[0] == "C" or c in "/\\;\ufffd" for c in segment)
    return hidden or segment.strip(". ") == "" or _ENCODED.search(segment) is not None


def _loose_readings(text: str) -> Iterator[Url]:
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    rest = (text[found.end() :] if found else text).lstrip("/\\ ")
    for authority, path in _split(rest):
        for host, port in _authorities(authority):
            for segments in _loose_paths(path):
                yield Url(scheme, host, port or _PORTS.get(scheme), segments)


def _visible(url: str) -> str:
    """A URL as a lenient client sees it: without control, format and space characters."""
    return "".join(c for c in url if c == " " or unicodedata.category(c)[0] not in "CZ").strip()


def _split(rest: str) -> Iterator[tuple[str, str]]:
    """What follows the scheme as authority and path, by each rule that clients follow."""
    for ends in (r"[/\\?#]", r"[/?#]", r"[/#]", r"/"):
        found = re.search(ends, rest)
        end = found.start() if found else len(rest)
        yield rest[:end], re.split(r"[?#]", rest[end:])[0]


def _authorities(authority: str) -> Iterator[tuple[str, int]]:
    """The hosts and ports that an authority may name; port 0 is none."""
    for part in dict.fromkeys((authority, unquote(authority))):
        pieces = [piece for piece in re.split(r"[@\\]", part) if piece]
        bracketed = re.findall(r"\[[^\[\]]*\](?::\d+)?", part)
        for piece in dict.fromkeys((*pieces[-1:], *pieces[:1], *bracketed)):
            found = re.match(r"\s*(\[[^\]]*\]?|[^:]*)(?::\s*(\d{1,5}))?", piece)
            if found and found[1]:
                for host in _loose_hosts(found[1]):
                    yield host, int(found[2] or 0)


def _loose_hosts(host: str) -> Iterator[str]:
    """The names or the address that a host may stand for."""
    name = host.strip("[] ").partition("%")[0].casefold().translate(DOTS).strip(".")
    address = _address(name) or _numeric_address(name)
    if address is not None:
        yield address
    yield name
    ascii_form = None if host.isascii() else _ascii_form(host.lower().strip("."))
    if ascii_form:
        yield ascii_form


def _ascii_form(name: str) -> str | None:
    import idna

    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except UnicodeError:
        return None


def _numeric_address(name: str) -> str | None:
    """An IPv4 address as ``inet_aton`` takes it: octal, hexadecimal, fewer than four parts."""
    parts = name.split(".")
    if len(parts) > 4 or not all(map(_NUMBER.fullmatch, parts)) or max(map(len, parts)) > 20:
        return None
    try:
        *high, low = map(_number, parts)
    except ValueError:
        return None
    value = sum((part & 0xFF) << (24 - 8 * at) for at, part in enumerate(high)) + low
    return str(ipaddress.IPv4Address(value & 0xFFFFFFFF))


def _number(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8) if text.startswith("0") and len(text) > 1 else int(text)


def _loose_paths(path: str) -> tuple[tuple[str, ...], ...]:
    """The path with and without what it goes up by, decoded until nothing is left to decode."""
    decoded = path
    for _ in range(3):
        decoded = unquote(decoded)
    parts = [part.partition(";")[0].strip(" ") for part in re.split(r"[/\\]+", decoded)]
    resolved: list[str] = []
    for part in parts:
        if part == "..":
            del resolved[-1:]
        elif part not in ("", "."):
            resolved.append(part)
    kept = tuple(part for part in parts if part not in ("", "."))
    return tuple(dict.fromkeys((tuple(resolved), kept)))


def _pattern_host(host: str) -> str:
    """The host of a pattern, in the form of ``Url.host``. Raises ``ValueError`` for a bad one."""
    if host.startswith("["):
        address = _address(host[1:-1])
        if address is None:
            raise ValueError(f"{host!r} is not an IPv6 address")
        return address
    labels = host.lower().strip(".").split(".")
    if "" in labels:
        raise ValueError(f"{host!r} is not a host: write one such as '*.example.com'")
    if host.isascii():
        return ".".join(labels)
    plain = [label if label.isascii() else _to_ascii(label) for label in labels]
    if None in plain:
        raise ValueError(f"{host!r} is not a host: write it as it looks in DNS, 'xn--…'")
    return ".".join(label or "" for label in plain)


def _wanted_port(wanted: UrlPattern, found: Url) -> int | None:
    return int(wanted.port) if wanted.port else _PORTS.get(found.scheme)


def _fits_loosely(wanted: UrlPattern, found: Url) -> bool:
    if wanted.scheme not in ("", "*") and found.scheme not in ("", wanted.scheme):
        return False
    if wanted.port not in ("", "*") and found.port not in (None, int(wanted.port)):
        return False
    if not host_fits(wanted.host, found.host):
        return False
    if wanted.path is None:
        return True
    folded = [part.casefold() for part in wanted.path]
    return match_segments(folded, [part.casefold() for part in found.segments])


def _why_not(pattern: str) -> str:
    """What is wrong with a pattern of URLs, and what to write."""
    if "?" in pattern or "#" in pattern:
        what = "a query or fragment cannot be matched: end the pattern at the path"
    elif "@" in pattern or "\\" in pattern:
        what = "a user name or a backslash has no place in it"
    elif "%" in pattern:
        what = "write the path decoded, without %"
    else:
        what = "write one such as 'https://*.example.com/api/**'"
    return f"{pattern!r} is not a pattern of URLs: {what}"
