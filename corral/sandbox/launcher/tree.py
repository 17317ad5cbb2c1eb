"""What a process tree uses, read from /proc; and stopping it where it is.

Read often while memory grows, so by plain system calls: pathlib would take ten times as long.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # signal itself costs a fork its enums
import os
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024
_ROOM = 16 * 1024
_FREEZE_ROUNDS = 50


class Usage(NamedTuple):
    """Memory in bytes that belongs to no file, and processor time in seconds, of a whole tree."""

    memory: int
    cpu_seconds: float


def descendants(root: int) -> list[int]:
    """Every process below ``root``, nearest first, zombies included."""
    found = children(root)
    for pid in found:
        found += children(pid)
    return found


def children(pid: int) -> list[int]:
    """The children of one process, zombies included."""
    # A process belongs to the thread that forked it, so each thread has a list of its own.
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 -- see above
    except OSError:
        return []
    found: list[int] = []
    for thread in threads:
        found += [int(child) for child in _read(f"/proc/{pid}/task/{thread}/children").split()]
    return found


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


def freeze(root: int) -> None:
    """Stop every process below ``root`` where it is."""
    stopped: set[int] = set()
    for _ in range(_FREEZE_ROUNDS):  # one that was not stopped yet may have forked
        running = [pid for pid in descendants(root) if pid not in stopped]
        if not running:
            return
        for pid in running:
            send(pid, signal.SIGSTOP)
        stopped.update(running)


def thaw(root: int) -> None:
    """Let every process below ``root`` go on, the innermost first."""
    for pid in reversed(descendants(root)):
        send(pid, signal.SIGCONT)


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _resident(pid: int) -> int:
    return _sum_of_fields(f"/proc/{pid}/status", (b"RssAnon:", b"RssShmem:", b"VmSwap:"))


def _proportional(pid: int) -> int:
    exact = _sum_of_fields(f"/proc/{pid}/smaps_rollup", (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:"))
    return exact or _resident(pid)


def _sum_of_fields(path: str, names: tuple[bytes, ...]) -> int:
    text, total = _read(path), 0
    for name in names:
        # What stands before the fields is the process's name, in which line ends are escaped.
        _, found, rest = text.partition(b"\n" + name)
        if found:
            total += int(rest.split(None, 1)[0]) * _KIB
    return total


def _cpu_seconds(pid: int) -> float:
    # After the name, which may hold anything, come the fields from the third on.
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return sum(int(field) for field in fields[11:15]) / _TICKS


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = piece = os.read(fd, _ROOM)
        while len(piece) == _ROOM:
            piece = os.read(fd, _ROOM)
            data += piece
        return data
    except OSError:
        return b""
    finally:
        os.close(fd)
