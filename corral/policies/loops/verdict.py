"""What was found: the kind of loop, and what was seen of it, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LoopKind = Literal["repeat", "cycle", "oscillation", "text", "stall"]


@dataclass(frozen=True)
class Verdict:
    """A loop. ``seen`` is a clause that goes on a sentence: "files__read was called 3 times …"."""

    kind: LoopKind
    seen: str


def times(count: int) -> str:
    """``once``, ``twice``, ``3 times``."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
