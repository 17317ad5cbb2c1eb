"""Hosts and rules as people write them, and as nobody should."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import ConfigError
from corral.sandbox.network.addresses import RefusedAddressError, checked_addresses
from corral.sandbox.network.headers import Mask
from corral.sandbox.network.hosts import OddHostError, canonical_host, split_authority
from corral.sandbox.network.rules import NetworkRule, parse, parse_all
from tests.sandbox.network.upstream import Resolver


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("API.GitHub.com.", "api.github.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("a_b.example", "a_b.example"),
        ("ﬁle.example", "file.example"),
    ],
)
def test_one_spelling(text: str, found: str) -> None:
    assert canonical_host(text) == found


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "a..b", "-a.example", "a b", "a/b", "a\0b", "user@host", "a%2eb"),
        *("2130706433", "0x7f000001", "0177.0.0.1", "127.1", "1.2.3.4.5", "256.1.1.1", "1.2.3.0x4"),
        *("fe80::1%eth0", "[fe80::1%25eth0]", "[::1", "::g", "xn--\u0301.example", "a" * 64),
        "a." * 127 + "example",
    ],
)
def test_what_is_odd_is_refused(text: str) -> None:
    with pytest.raises(OddHostError):
        canonical_host(text)


@given(st.text(max_size=80))
def test_a_canonical_host_is_its_own_and_no_other_readers_address(text: str) -> None:
    try:
        host = canonical_host(text)
    except OddHostError:
        return
    assert canonical_host(host) == host
    assert host.isascii()
    try:
        packed = socket.inet_aton(host)  # the resolvers' way to read numbers
    except OSError:
        return
    assert str(ipaddress.IPv4Address(packed)) == host


@given(st.text(max_size=80))
def test_a_rule_is_understood_or_refused(text: str) -> None:
    try:
        rule = parse(text)
    except ConfigError:
        return
    assert rule.ports
    assert all(0 < port < 65536 for port in rule.ports)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("api.github.com", NetworkRule("api.github.com")),
        ("api.github.com:443 GET,HEAD", NetworkRule("api.github.com", (443,), ("GET", "HEAD"))),
        ("*.Example.com:80,443", NetworkRule("*.example.com", (80, 443))),
        ("localhost:8080 private", NetworkRule("localhost", (8080,), private=True)),
        ("[::1]:8080 GET private", NetworkRule("::1", (8080,), ("GET",), private=True)),
        ("*", NetworkRule("*")),
    ],
)
def test_a_rule_as_it_is_written(text: str, rule: NetworkRule) -> None:
    assert parse(text) == rule


def test_headers_belong_to_the_rules_of_their_host() -> None:
    network = parse_all(["A.test GET", "b.test"], {"a.TEST": {"X-Key": "secret"}})
    assert [dict(rule.inject) for rule in network.rules] == [{"X-Key": "secret"}, {}]
    assert "secret" not in repr(network)


@pytest.mark.parametrize("text", ["a:0", "a:65536", "a:-1", "a:", "[::1]x", "a:1:2", "a:\uff11"])
def test_ports_that_are_none(text: str) -> None:
    with pytest.raises(OddHostError):
        split_authority(text, 443)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
async def test_only_what_is_public_is_reached_without_being_granted(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    try:
        (found,) = await checked_addresses("a.test", 1, Resolver([str(address)]), private=False)
    except RefusedAddressError:
        return
    assert found == str(address)
    assert address.is_global
    assert not address.is_multicast
    assert getattr(address, "ipv4_mapped", None) is None


@given(st.binary(max_size=60), st.binary(max_size=60), st.integers(1, 7))
def test_a_secret_is_masked_wherever_the_pieces_break(
    before: bytes, after: bytes, size: int
) -> None:
    secret = "canary-0123456789"
    whole = before + secret.encode() + after
    mask = Mask([secret])
    parts = [mask.body(whole[at : at + size]) for at in range(0, len(whole), size)]
    masked = b"".join([*parts, mask.rest()])
    assert len(masked) == len(whole)
    assert secret.encode() not in masked
    assert all(new in (old, ord("*")) for old, new in zip(whole, masked, strict=True))
