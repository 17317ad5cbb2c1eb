"""What a back end enforces: said by ``probe``, and required by whoever will not do without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

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
        """Every property that can be required, as written in ``sandbox_require``.

        A stronger isolation has the names of the weaker ones, too.
        """
        found: set[str] = {f"isolation:{self.isolation}", f"network:{self.network}", *self.limits}
        if self.isolation in STRENGTH:
            found |= {f"isolation:{kind}" for kind in STRENGTH[: STRENGTH.index(self.isolation)]}
        found |= {"stateful"} if self.stateful else set()
        return frozenset(found | ({"pause"} if self.pause != "none" else set()))


REQUIRABLE: frozenset[str] = frozenset(
    {
        *(f"isolation:{kind}" for kind in STRENGTH if kind != "none"),
        *(f"network:{kind}" for kind in ("none", "allowlist")),
        *get_args(Limit),
        "stateful",
        "pause",
    }
)
"""What ``sandbox_require`` may name."""


@dataclass(frozen=True)
class Health:
    """What ``probe`` found: whether the back end holds, and in words why not."""

    backend: str
    ok: bool
    detail: str
    hint: str = ""
    capabilities: Capabilities | None = None


_TREE: frozenset[Limit] = frozenset(get_args(Limit))

DECLARED: Mapping[str, Capabilities] = MappingProxyType(
    {
        "bubblewrap": Capabilities("namespace", "allowlist", _TREE, pause="freeze"),
        "landlock": Capabilities("process", "none", _TREE, pause="freeze"),
        "gvisor": Capabilities("user_kernel", "allowlist", _TREE, pause="freeze"),
        "seatbelt": Capabilities("process", "allowlist", _TREE - {"processes", "memory"}),
        "none": Capabilities(
            "none", "open", _TREE - {"processes", "open_files", "file_size"}, pause="freeze"
        ),
    }
)
"""What the back ends of this machine are built to enforce; ``probe`` tries it."""
