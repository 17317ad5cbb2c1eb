"""What a back end enforces: said by ``probe``, and required by whoever will not do without."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Isolation = Literal["none", "process", "namespace", "user_kernel", "vm", "interpreter", "remote"]

Limit = Literal[
    "memory",
    "processes",
    "cpu",
    "wall",
    "open_files",
    "file_size",
    "written",
    "output",
    "kill_tree",
]

STRENGTH: tuple[Isolation, ...] = (
    "none",
    "process",
    "namespace",
    "user_kernel",
    "vm",
)
"""Kinds of isolation of this machine, the weakest first."""


@dataclass(frozen=True)
class Capabilities:
    """What holds in a sandbox of one back end.

    ``network``: how much can be allowed: ``none`` means that there never is any. ``limits`` are
    those that are enforced for the whole tree. ``stateful``: sessions keep their state. ``pause``:
    ``freeze`` stops processes in memory, ``snapshot`` survives this process.
    """

    isolation: Isolation
    network: Literal["none", "allowlist", "open"] = "none"
    limits: frozenset[Limit] = field(default_factory=frozenset)
    stateful: bool = True
    pause: Literal["none", "freeze", "snapshot"] = "none"

    @property
    def names(self) -> frozenset[str]:
        """Every property that can be required, as written in ``sandbox_require``."""
        found = {f"isolation:{self.isolation}", f"network:{self.network}", *self.limits}
        found |= {"stateful"} if self.stateful else set()
        return frozenset(found | ({"pause"} if self.pause != "none" else set()))


@dataclass(frozen=True)
class Health:
    """What ``probe`` found: whether the back end holds, and in words why not."""

    backend: str
    ok: bool
    detail: str
    hint: str = ""
    capabilities: Capabilities | None = None
