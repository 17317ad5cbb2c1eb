"""What the tests of the tools room share: launches, limits and how to wait for a process."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

from corral.sandbox.contract import Launch
from corral.tools.contract import CallOptions
from corral.tools.server import Timing
from corral.tools.stdio import StdioServer

SERVERS = Path(__file__).parent / "servers"
QUICK = Timing(startup=20.0, call=20.0, grace=0.3, health=0.3)
OPTIONS = CallOptions("key")

MakeServer = Callable[..., StdioServer]


def lean(mode: str = "plain", notes: Path | None = None) -> Launch:
    """The lean server's launch, unconfined and with an empty environment."""
    script = str(SERVERS / "hostile.py")
    return Launch((sys.executable, "-S", "-E", script, mode, *([str(notes)] if notes else [])), {})


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for something that can be observed."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.01)


def notes_in(path: Path) -> list[str]:
    """What a server has noted so far."""
    return path.read_text().splitlines() if path.exists() else []
