"""The one way to start a proxy: whoever starts something with a network does it with this."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path

from corral.jsontypes import JsonObject
from corral.sandbox.network.rules import Forward, Network, NetworkRule
from corral.sandbox.network.streams import Handler
from corral.sandbox.network.traffic import Watch, unwatched


@dataclass(frozen=True)
class Reach:
    """What something may reach, and who set it.

    ``setting`` is what refusals name as the place to allow more: ``network of [mcp.NAME]``.
    ``handlers`` speak for forwarded ports, by their port inside.
    """

    network: Network
    setting: str
    handlers: Mapping[int, Handler] = field(default_factory=dict)

    def to_json(self) -> JsonObject | None:
        """This as a JSON object; ``None`` where a secret is a part of it."""
        if self.handlers or any(rule.inject for rule in self.network.rules):
            return None
        return {
            "setting": self.setting,
            "rules": [
                [rule.host, list(rule.ports), list(rule.methods), rule.private]
                for rule in self.network.rules
            ],
            "forwards": [list(astuple(forward)) for forward in self.network.forwards],
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> Reach:
        """Read what ``to_json`` wrote."""
        rules = tuple(
            NetworkRule(host, tuple(ports), tuple(methods), private)
            for host, ports, methods, private in data["rules"]
        )
        forwards = tuple(Forward(*forward) for forward in data["forwards"])
        return cls(Network(rules, forwards), data["setting"])


@asynccontextmanager
async def open_proxy(reach: Reach, watch: Watch = unwatched) -> AsyncIterator[Path]:
    """A proxy as long as the body lasts; its socket, as ``Profile.proxy`` needs it."""
    # In a thread: its libraries take a while to import, and others have work to do.
    await asyncio.to_thread(importlib.import_module, "corral.sandbox.network.proxy")
    from corral.sandbox.network.proxy import Proxy
    from corral.sandbox.network.ways import Ways

    ways = Ways(reach.network, reach.setting, watch)
    async with Proxy(ways, reach.handlers) as proxy:
        yield proxy.socket
