"""URLs: what a pattern says is where a client goes, however the URL is written."""

from __future__ import annotations

import re
import socket
import time
from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.policies.patterns.urls import (
    host_fits,
    hosts_of,
    is_url_name,
    matches_url_loosely,
    matches_url_strictly,
    parse_url_pattern,
    read_plainly,
    readings,
)


@pytest.mark.parametrize(
    ("pattern", "url", "expected"),
    [
        ("https://example.com/api/**", "https://example.com/api/x?q=1#f", True),
        ("https://example.com/api/**", "https://example.com/api", True),
        ("https://example.com/api/**", "HTTPS://EXAMPLE.com:443/api/x", True),
        ("https://example.com/api/**", "https://example.com/apix", False),
        ("https://example.com/api/**", "https://example.com/API/x", False),
        ("https://example.com/api/**", "http://example.com/api/x", False),
        ("https://example.com/api/**", "https://example.com:8443/api/x", False),
        ("https://example.com/api/**", "https://example.com:0/api/x", False),
        ("https://example.com/api/**", "https://example.com/api/../admin", False),
        ("https://example.com/api/**", "https://example.com/api/./x", False),
        ("https://example.com/api/**", "https://example.com/api/%2e%2e/admin", False),
        ("https://example.com/api/**", "https://example.com/api/%2E./admin", False),
        ("https://example.com/api/**", "https://example.com/api/..%2fadmin", False),
        ("https://example.com/api/**", "https://example.com/api/..%5cadmin", False),
        ("https://example.com/api/**", "https://example.com/api/..\\admin", False),
        ("https://example.com/api/**", "https://example.com/api/%252e%252e/admin", False),
        ("https://example.com/api/**", "https://example.com/api/..;/admin", False),
        ("https://example.com/api/**", "https://example.com/api//x", False),
        ("https://example.com/api/**", "https://example.com//api/x", False),
        ("https://example.com/api/**", "https://example.com/api/%00", False),
        ("https://example.com/api/**", "https://example.com/api/%zz", False),
        ("https://example.com/api/**", "https://example.com/api/a%20b", True),
        ("https://example.com/api/*", "https://example.com/api/a/b", False),
        ("https://example.com/api/*.json", "https://example.com/api/a.json", True),
        ("https://example.com/é", "https://example.com/%C3%A9", True),
        ("https://example.com", "https://example.com/", True),
        ("https://example.com", "https://example.com/x", False),
        ("https://example.com/**", "https://example.com/x/y", True),
        ("example.com/**", "https://example.com/x", True),
        ("example.com/**", "http://example.com/x", False),
        ("http://example.com:8080/**", "http://example.com:8080/x", True),
        ("http://example.com:*/**", "http://example.com:9/x", True),
        ("*://example.com/**", "http://example.com/x", True),
        ("*://example.com/**", "ftp://example.com/x", True),
        ("*://example.com/**", "ftp://example.com:22/x", False),
        ("*/**", "https://any.where/x", True),
        ("*.example.com/**", "https://a.example.com/", True),
        ("*.example.com/**", "https://a.b.example.com/", True),
        ("*.example.com/**", "https://example.com/", False),
        ("*.example.com/**", "https://badexample.com/", False),
        ("*.example.com/**", "https://example.com.evil.org/", False),
        ("api-*.example.com/**", "https://api-eu.example.com/", True),
        ("api-*.example.com/**", "https://api-eu.evil.example.com/", False),
        ("example.com/**", "https://example.com@evil.org/", False),
        ("example.com/**", "https://user:pw@example.com/", False),
        ("example.com/**", "https://evil.org#@example.com/", False),
        ("example.com/**", "https://evil.org?@example.com/", False),
        ("example.com/**", "https://evil.org\\@example.com/", False),
        ("example.com/**", "https://example.com\\@evil.org/", False),
        ("example.com/**", "https:\\\\example.com/", False),
        ("example.com/**", "https:/example.com/", False),
        ("example.com/**", "https:example.com", False),
        ("example.com/**", "//example.com/", False),
        ("example.com/**", "example.com/x", False),
        ("example.com/**", " https://example.com/", False),
        ("example.com/**", "https://example.com /", False),
        ("example.com/**", "https://exam\tple.com/", False),
        ("example.com/**", "https://example.com/a\nb", False),
        ("example.com/**", "https://example.com./", False),
        ("example.com/**", "https://example%2ecom/", False),
        ("example.com/**", "https://\uff45xample.com/", False),
        ("example.com/**", "https://example。com/", False),
        ("example.com/**", "https://exa\u00admple.com/", False),
        ("example.com/**", "https://ex\u0430mple.com/", False),
        ("bücher.example/**", "https://xn--bcher-kva.example/", True),
        ("xn--bcher-kva.example/**", "https://bücher.example/", True),
        ("xn--strae-oqa.example/**", "https://straße.example/", False),
        ("127.0.0.1/**", "https://127.0.0.1/", True),
        ("127.0.0.1/**", "https://127.1/", False),
        ("127.0.0.1/**", "https://0x7f000001/", False),
        ("127.0.0.1/**", "https://2130706433/", False),
        ("127.0.0.1/**", "https://0177.0.0.1/", False),
        ("[::1]/**", "https://[0:0:0:0:0:0:0:1]/", True),
        ("[::1]/**", "https://[::1%25eth0]/", False),
    ],
)
def test_an_allow_fits_what_every_client_reads_alike(
    pattern: str, url: str, expected: bool
) -> None:
    assert matches_url_strictly(pattern, url) is expected
    if expected:
        assert matches_url_loosely(pattern, url)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.org/",
        "http://evil.org:8080/x",
        "ftp://evil.org",
        "HTTP://EVIL.ORG",
        "https://evil.org./",
        "//evil.org/",
        "evil.org",
        "evil.org:8080/x",
        "https:evil.org",
        "https:/evil.org",
        "https:///evil.org",
        "https:\\\\evil.org",
        "\\\\evil.org",
        " https://evil.org",
        "https://evil.org\n",
        "ht\ttps://ev\nil.org",
        "https://user:pw@evil.org/",
        "https://good.com@evil.org/",
        "https://good.com:443@evil.org/",
        "https://a@b@evil.org/",
        "https://evil.org\\@good.com/",
        "https://good.com\\@evil.org/",
        "https://evil.org#@good.com/",
        "https://evil.org?@good.com/",
        "https://evil.org/@good.com/",
        "https://evil%2eorg/",
        "https://%65vil.org/",
        "https://\uff45vil.org/",
        "https://evil。org/",
        "https://evil\uff0eorg/",
        "https://ev\u00adil.org/",
        "https://ev\u200bil.org/",
        "https://evil.org\u2028/",
        "https://evil.org:99999/",
    ],
)
def test_a_deny_sees_through_disguises(url: str) -> None:
    assert matches_url_loosely("evil.org", url)
    assert not matches_url_strictly("good.com/**", url)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1"),
        *("0x7F.1", "017700000001", "127.0.0.1.", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
        *(
            "[::FFFF:127.0.0.1]",
            "\uff11\uff12\uff17.0.0.1",
            "127。0。0。1",
            "user@127.1",
            "%31%32%37.1",
        ),
    ],
)
def test_an_address_is_the_same_in_every_notation(host: str) -> None:
    assert matches_url_loosely("127.0.0.1", f"http://{host}/x")


@pytest.mark.parametrize(
    ("pattern", "url", "expected"),
    [
        ("evil.org/admin/**", "https://evil.org/x/../admin/y", True),
        ("evil.org/admin/**", "https://evil.org/%61dmin/y", True),
        ("evil.org/admin/**", "https://evil.org/ADMIN/y", True),
        ("evil.org/admin/**", "https://evil.org//admin//y", True),
        ("evil.org/admin/**", "https://evil.org\\admin\\y", True),
        ("evil.org/admin/**", "https://evil.org/%2561dmin/y", True),
        ("evil.org/admin/**", "https://evil.org/admin;x=1/y", True),
        ("evil.org/admin/**", "https://evil.org/public", False),
        ("http://evil.org", "https://evil.org/", False),
        ("http://evil.org", "evil.org", True),
        ("evil.org:22", "https://evil.org/", False),
        ("evil.org:443", "https://evil.org/", True),
        ("*.evil.org", "https://evil.org/", False),
        ("*.evil.org", "https://a.EVIL.org/", True),
        ("*", "https://any.where/", True),
        ("evil.org", "https://notevil.org/", False),
        ("xn--strae-oqa.example", "https://straße.example/", True),
        ("strasse.example", "https://straße.example/", True),
    ],
)
def test_a_deny_says_no_more_than_it_must(pattern: str, url: str, expected: bool) -> None:
    assert matches_url_loosely(pattern, url) is expected


pieces = st.lists(
    st.sampled_from(
        [
            *("https", "http", "HTTP", ":", "/", "//", "\\", "@", "#", "?", ".", "..", ";", "%"),
            *("good.com", "evil.org", "a", "127.0.0.1", "0x7f.1", "[::1]", "[", "]", ":80", ":443"),
            *("%2e", "%2f", "%40", "%00", "\t", "\n", " ", "é", "ß", "。", "\u00ad", "admin", "1"),
        ]
    ),
    max_size=10,
).map("".join)


@settings(deadline=None, max_examples=300)
@given(
    url=st.one_of(pieces, st.builds("{}://{}".format, st.sampled_from(["http", "https"]), pieces))
)
def test_a_client_goes_where_the_reading_says(url: str) -> None:
    plain = read_plainly(url)
    for scheme, name, port in filter(None, (by_httpx(url), by_urllib(url))):
        host = connected(name)
        if plain is not None:
            assert (plain.scheme, plain.host, plain.port) == (scheme, host, port)
        if re.fullmatch(r"[a-z0-9_.:-]*[a-z0-9_:]\.?", host) and "xn--" not in host:
            assert any(reading.host == host.strip(".") for reading in readings(url)), (url, host)


def connected(host: str) -> str:
    """A host as the system takes it: an address in whatever form is that address."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host)) if host.isascii() else host
    except OSError:
        return host


def by_httpx(url: str) -> tuple[str, str, int | None] | None:
    """Where httpx2 would connect to."""
    try:
        parsed = httpx2.URL(url)
        host = parsed.raw_host.decode()
        if parsed.scheme not in ("http", "https") or not host:
            return None
    except httpx2.InvalidURL:
        return None
    return parsed.scheme, host, parsed.port or {"http": 80, "https": 443}[parsed.scheme]


def by_urllib(url: str) -> tuple[str, str, int | None] | None:
    """Where urllib would connect to, if it takes the name for one at all."""
    try:
        parsed = urlsplit(url)
        host, port = parsed.hostname, parsed.port
        if parsed.scheme not in ("http", "https") or not host or " " in host or "%" in host:
            return None
        if ":" not in host:
            host = host.encode("idna").decode()
    except ValueError:
        return None
    return parsed.scheme, host, port or {"http": 80, "https": 443}[parsed.scheme]


@settings(deadline=None)
@given(url=pieces, pattern=st.sampled_from(["https://good.com/**", "*/**", "*://*:*/a/**"]))
def test_what_an_allow_lets_through_a_deny_of_the_same_catches(url: str, pattern: str) -> None:
    if matches_url_strictly(pattern, url):
        assert matches_url_loosely(pattern, url)


@settings(deadline=None)
@given(
    labels=st.lists(st.text(alphabet="abé-", min_size=1, max_size=3), min_size=1, max_size=4),
    rest=st.sampled_from(["example.com", "a.b"]),
)
def test_a_star_at_the_start_is_subdomains_only(labels: list[str], rest: str) -> None:
    assert host_fits(f"*.{rest}", ".".join([*labels, rest]))
    assert not host_fits(f"*.{rest}", rest)
    assert not host_fits(f"*.{rest}", f"{labels[0]}{rest}")
    assert not host_fits(f"*.{rest}", f"{rest}.{labels[0]}")


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("https://example.com/x?q=1", "query"),
        ("https://example.com/#x", "fragment"),
        ("https://me@example.com/", "user name"),
        ("https://example.com\\x", "backslash"),
        ("https://example.com/%20", "decoded"),
        ("https://example.com/a/../b", "leads to"),
        ("https://exa..mple.com/", "not a host"),
        ("https://[::zz]/", "write one such as"),
        ("https://[1:2]/", "IPv6"),
        ("", "write one such as"),
        ("https://", "write one such as"),
    ],
)
def test_a_bad_pattern_is_refused_with_what_to_write(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_url_pattern(pattern)


@pytest.mark.parametrize("name", ["url", "base_url", "imageUrl", "uri", "href", "endpoint"])
def test_arguments_are_urls_by_their_names(name: str) -> None:
    assert is_url_name(name)
    assert not is_url_name("curly")


def test_the_likeliest_host_comes_first() -> None:
    assert hosts_of("https://good.com@evil.org/")[0] == "evil.org"
    assert hosts_of("no url at all") == ("no url at all",)


@pytest.mark.parametrize("piece", ["/..", "@", "%25", "\\", ":", ".", "[", "é", "0x", "//", "a."])
def test_no_url_makes_matching_slow(piece: str) -> None:
    url = "https://" + piece * 60_000
    started = time.process_time()
    matches_url_loosely("evil.org/admin", url)
    matches_url_loosely("evil.org/admin", url[:7_900])
    matches_url_strictly("evil.org/admin", url[:7_900])
    assert time.process_time() - started < 2
