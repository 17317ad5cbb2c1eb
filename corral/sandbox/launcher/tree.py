"""What a process tree uses, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024


class Usage(NamedTuple):
    """Memory in bytes that belongs to no file, and processor time in seconds, of a whole tree."""

    memory: int
    cpu_seconds: float


def descendants(root: int) -> list[int]:
    """Every process below ``root``, nearest first, zombies included."""
    found: list[int] = []
    queue = [root]
    while queue:
        children = _children(queue.pop(0))
        found += children
        queue += children
    return found


def _children(pid: int) -> list[int]:
    # A process belongs to the thread that forked it, so each thread has a list of its own.
    children: list[int] = []
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return children
    for thread in threads:
        listing = _read(thread / "children")
        children += [int(child) for child in listing.split()]
    return children


def measure(root: int, limit: int) -> Usage:
    """What ``root`` and all below it use.

    Pages that several processes share are counted for each of them at first; only if that sum
    is over ``limit`` are they counted by share, which takes the kernel longer.
    """
    pids = [root, *descendants(root)]
    memory = sum(_resident(pid) for pid in pids)
    if memory > limit:
        memory = sum(_proportional(pid) for pid in pids)
    return Usage(memory, sum(_cpu_seconds(pid) for pid in pids))


def _resident(pid: int) -> int:
    return _sum_of_fields(f"/proc/{pid}/status", (b"RssAnon:", b"RssShmem:", b"VmSwap:"))


def _proportional(pid: int) -> int:
    exact = _sum_of_fields(f"/proc/{pid}/smaps_rollup", (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:"))
    return exact or _resident(pid)


def _sum_of_fields(path: str, names: tuple[bytes, ...]) -> int:
    total = 0
    for line in _read(path).splitlines():
        if line.startswith(names):
            total += int(line.split()[1]) * _KIB
    return total


def _cpu_seconds(pid: int) -> float:
    # After the name, which may hold anything, come the fields from the third on.
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return sum(int(field) for field in fields[11:15]) / _TICKS


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
