"""robots.txt, asked once for each site and kept (RFC 9309)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from corral.mcp_servers.tool import ToolFault
from corral.mcp_servers.web.addresses import Address, read_address, resolve
from corral.mcp_servers.web.settings import Settings
from corral.mcp_servers.web.transport import Limit, Sink, Transport

if TYPE_CHECKING:
    from protego import Protego

_MAX_SIZE = 500 * 1024
_MAX_SITES = 256
_MAX_HOPS = 5
_KEPT, _KEPT_UNREACHABLE = 24 * 3600.0, 60.0
_HINT = (
    "The user can have robots.txt ignored: robots = false under [web] in their own "
    "configuration file."
)


class _Rules(NamedTuple):
    """What one site says. ``fault``: why it could not be asked, which forbids everything."""

    rules: Protego | None
    fault: str
    until: float


class Robots:
    """What sites allow this agent."""

    def __init__(self, agent: str) -> None:
        self._agent = agent.partition("/")[0]
        self._sites: dict[str, _Rules] = {}
        self._lock = threading.Lock()

    async def check(self, transport: Transport, address: Address, settings: Settings) -> None:
        """Raise ``ToolFault`` where robots.txt forbids an address, or cannot be asked."""
        with self._lock:
            found = self._sites.get(address.origin)
        if found is None or found.until < time.monotonic():
            found = await self._ask(transport, address, settings)
            with self._lock:
                while len(self._sites) >= _MAX_SITES:
                    del self._sites[next(iter(self._sites))]
                self._sites[address.origin] = found
        if found.fault:
            raise ToolFault(
                f"{address.url} was not visited: {address.host} gave no robots.txt, which says "
                f"whether it may be.\n{found.fault}\n{_HINT}"
            )
        if found.rules is not None and not found.rules.can_fetch(address.url, self._agent):
            raise ToolFault(
                f"{address.url} was not visited: the robots.txt of {address.host} forbids it to "
                f"programs. {_HINT}"
            )

    async def _ask(self, transport: Transport, address: Address, settings: Settings) -> _Rules:
        """Nothing there allows all; a site that fails forbids all for a while."""
        now = time.monotonic()
        try:
            status, text, told = await _robots_txt(transport, address, settings)
        except ToolFault as fault:
            return _Rules(None, str(fault), now + _KEPT_UNREACHABLE)
        if status >= 500 or status == 429:
            return _Rules(None, told, now + _KEPT_UNREACHABLE)
        if status != 200:
            return _Rules(None, "", now + _KEPT)
        from protego import Protego  # only here is it needed

        return _Rules(Protego.parse(text), "", now + _KEPT)


async def _robots_txt(
    transport: Transport, address: Address, settings: Settings
) -> tuple[int, str, str]:
    """The status of a site's robots.txt, its text and the status in words; redirects followed."""
    at = address._replace(target="/robots.txt")
    for _ in range(_MAX_HOPS):
        body = bytearray()
        sink = Sink(lambda _head: None, body.extend)
        head, _ = await transport.get(at, sink, Limit(_MAX_SIZE, partial=True))
        if not 300 <= head.status < 400 or "location" not in head.headers:
            return head.status, body.decode("utf-8", "replace"), head.told(at)
        at = read_address(resolve(at.url, head.headers["location"]))
        if settings.check(at).private and at.host != address.host:
            break  # no site sends anybody into the own network
    return 404, "", ""  # what cannot be found counts as nothing there, says the standard
