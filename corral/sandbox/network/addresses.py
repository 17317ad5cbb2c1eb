"""Which addresses a name may lead to: looked up once, checked, and then connected to as checked.

Nothing is looked up a second time between the check and the connection, so an answer that changes
(DNS rebinding) changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives the addresses of a host name; the port is for services that are found by it."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA = {
    "169.254.169.254": "AWS, Google, Azure and others",
    "169.254.170.2": "AWS containers",
    "fd00:ec2::254": "AWS",
    "100.100.100.200": "Alibaba",
    "168.63.129.16": "Azure",
    "192.0.0.192": "Oracle",
}
_TRANSLATED = tuple(
    map(
        ipaddress.ip_network,
        (
            *("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"),
            *("2001::/32", "2002::/16", "fec0::/10"),
        ),
    )
)
_MOST = 16
_AT_ONCE = 8


@cache
def _lookups() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="corral-lookup")


class RefusedAddressError(Exception):
    """A name leads only where it may not; the text says where and why."""


async def system_resolve(host: str, port: int) -> list[str]:
    """The addresses that the system finds. Raises ``OSError``.

    In threads of their own: slow lookups, which a sandbox can ask for, keep nothing else waiting.
    """
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_lookups(), look_up)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def checked_addresses(
    host: str, port: int, resolve: Resolve, *, private: bool
) -> tuple[str, ...]:
    """The addresses of a host that may be connected to, those of IPv4 first.

    ``private`` lets them be of the own network. An address of a metadata service must be what
    ``host`` is itself. Raises ``OSError`` when there is none, ``RefusedAddressError`` when none
    may be used.
    """
    literal = _address(host)
    found = [str(literal)] if literal else await resolve(host, port)
    reasons: list[str] = []
    usable: list[_Address] = []
    for text in found[:_MOST]:
        address = _address(text)
        reason = "is no address" if address is None else _why_not(address, host, private)
        if reason:
            reasons.append(f"{text} {reason}")
        elif address is not None:
            usable.append(address)
    if not usable and not reasons:
        raise OSError(f"{host} has no address")
    if not usable:
        raise RefusedAddressError(f"{host} leads to {', '.join(reasons[:3])}")
    return tuple(str(address) for address in sorted(usable, key=lambda one: one.version))


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _why_not(address: _Address, host: str, private: bool) -> str:
    """Why an address may not be connected to; empty if it may."""
    plain = _plain(address)
    if str(plain) in _METADATA:
        is_named = str(address) == host and private
        return "" if is_named else f"is a metadata service ({_METADATA[str(plain)]})"
    if plain.is_multicast or plain.is_unspecified:
        return "belongs to no single machine"
    if private:
        return ""
    if any(address in network for network in _TRANSLATED if network.version == address.version):
        return "stands for an address of another kind"
    return "" if plain.is_global else "is not public"


def _plain(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 address may be written around."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return address.ipv4_mapped or address.sixtofour or _low_bits(address) or address


def _low_bits(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    number = int(address)
    around = any(address in network for network in (_TRANSLATED[0], _TRANSLATED[2]))
    # ::1 and :: are addresses of their own.
    return ipaddress.IPv4Address(number & 0xFFFFFFFF) if around and number > 1 else None
