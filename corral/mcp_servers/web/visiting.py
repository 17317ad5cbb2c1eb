"""From an address to what is there: rules, robots, redirects and the cache, hop by hop."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from corral.mcp_servers.tool import Call, ToolFault
from corral.mcp_servers.web.addresses import Address, read_address, resolve
from corral.mcp_servers.web.cache import Cache, Kept
from corral.mcp_servers.web.robots import Robots
from corral.mcp_servers.web.settings import Settings
from corral.mcp_servers.web.transport import Ask, Head, Limit, Sink, Transport

MAX_HOPS = 10
"""How many redirects are followed, those that a page asks for included."""

_MOVED = (301, 302, 303, 307, 308)


class Found(NamedTuple):
    """What an address led to. ``hops`` are the addresses before the last, oldest first."""

    address: Address
    hops: tuple[Address, ...]
    head: Head
    body: bytes
    cut: bool = False

    def moved(self) -> Iterator[str]:
        """What the redirects were, in words; another host is named as such."""
        for before, after in pairwise((*self.hops, self.address)):
            other = " (another host)" if before.host != after.host else ""
            yield f"{before.url} leads to {after.url}{other}"


class Visitor:
    """Gets what is at addresses; keeps what may be kept until the server ends."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._robots = Robots(settings.agent)
        self._cache = Cache()

    def start(self, url: str) -> Address:
        """The address that a model asks for, checked. Raises ``ToolFault``."""
        address = read_address(url)
        self.settings.check(address)
        return address

    async def visit(self, transport: Transport, address: Address, call: Call) -> Found:
        """Follow an address to a page, and read it into memory.

        Raises ``ToolFault`` for what may not be visited, for loops, and for what is too large.
        """
        hops: list[Address] = []
        while True:
            head, body, cut = await self._get(transport, address, call)
            after = moved_to(address, head)
            if after is None:
                return Found(address, tuple(hops), head, body, cut)
            hops.append(address)
            address = self.follow(hops, after)

    async def store(self, transport: Transport, address: Address, sink: Sink) -> Found:
        """Follow an address to a file, and hand what is there to ``sink``, nothing else."""
        hops: list[Address] = []
        while True:
            await self._ask_robots(transport, address)
            final = _Final(sink)
            head, _ = await transport.get(
                address, Sink(final.begin, final.take), Limit(self.settings.max_bytes)
            )
            after = moved_to(address, head)
            if after is None:
                return Found(address, tuple(hops), head, b"")
            hops.append(address)
            address = self.follow(hops, after)

    def follow(self, hops: list[Address], link: str) -> Address:
        """The next address after ``hops``, checked anew. Raises ``ToolFault``.

        What is in the own network may be private, so no page leads there: its address is asked for.
        """
        before = hops[-1]
        if len(hops) > MAX_HOPS:
            raise ToolFault(f"{hops[0].url} was given up after {MAX_HOPS} redirects.")
        try:
            after = read_address(link)
            rule = self.settings.check(after)
        except ToolFault as fault:
            raise ToolFault(
                f"{before.url} leads elsewhere, and was not followed. {fault}"
            ) from fault
        if after in hops:
            raise ToolFault(f"{before.url} leads back to {after.url}: a loop of redirects.")
        if rule.private and after.host != before.host:
            raise ToolFault(
                f"{before.url} leads into the own network, to {after.url}, and was not followed: "
                "fetch that address by itself if it is wanted."
            )
        return after

    async def _get(
        self, transport: Transport, address: Address, call: Call
    ) -> tuple[Head, bytes, bool]:
        await self._ask_robots(transport, address)
        kept = self._cache.find(address.url)
        if kept is not None and kept.fresh:
            return kept.head, kept.body, kept.cut
        ask = Ask(kept.conditions if kept is not None else {})
        into = _Memory(call, address)
        limit = Limit(self.settings.max_bytes, partial=True)
        head, cut = await transport.get(address, Sink(into.begin, into.take), limit, ask)
        if head.status == 304 and kept is not None:
            return self._cache.renew(kept, head)
        body = bytes(into.body)
        self._cache.keep(Kept.of(address.url, head, body, cut))
        return head, body, cut

    async def _ask_robots(self, transport: Transport, address: Address) -> None:
        if self.settings.robots:
            await self._robots.check(transport, address, self.settings)


def moved_to(address: Address, head: Head) -> str | None:
    """Where an answer says that what is wanted has gone; ``None`` if it says nothing of it."""
    if head.status not in _MOVED or "location" not in head.headers:
        return None
    return resolve(address.url, head.headers["location"])


class _Memory:
    """Takes a body into memory, and says how far it is."""

    def __init__(self, call: Call, address: Address) -> None:
        self.body = bytearray()
        self._call, self._host = call, address.host
        self._size: int | None = None

    def begin(self, head: Head) -> None:
        self._size = head.size

    def take(self, piece: bytes) -> None:
        self.body += piece
        self._call.progress(len(self.body), self._size, f"reading from {self._host}")


class _Final:
    """Hands on the body of an answer that is no redirect and no error."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._wanted = False

    def begin(self, head: Head) -> None:
        self._wanted = head.status == 200
        if self._wanted:
            self._sink.begin(head)

    def take(self, piece: bytes) -> None:
        if self._wanted:
            self._sink.take(piece)
