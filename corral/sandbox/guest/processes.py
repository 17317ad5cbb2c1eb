"""Processes that look after others: adopt what these leave behind, find it, and end it."""

from __future__ import annotations

import _ctypes  # ctypes and signal themselves would take 10 ms of every start
import os
import time
from _signal import SIGKILL  # type: ignore[import-not-found]  # typeshed has only signal

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_TICKS = os.sysconf("SC_CLK_TCK")
_ROUNDS = 100
_PAUSE = 0.005
_LISTS_CHILDREN = os.access("/proc/thread-self/children", os.R_OK)
_PRCTL = _ctypes.dlsym(_ctypes.dlopen("", 0), "prctl")


def become_subreaper() -> None:
    """Adopt every orphan below this process (prctl(2)); not handed on to children."""
    _ctypes.call_function(_PRCTL, (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; kept when a program is executed."""
    _ctypes.call_function(_PRCTL, (_PR_SET_PDEATHSIG, int(SIGKILL), 0, 0, 0))


def become_opaque() -> None:
    """Keep other processes of the same user out of this one's memory and open files."""
    _ctypes.call_function(_PRCTL, (_PR_SET_DUMPABLE, 0, 0, 0, 0))


def descendants(root: int) -> list[int]:
    """Every process below ``root``, from /proc, zombies included."""
    parents = None if _LISTS_CHILDREN else _parents()
    found = _children(root, parents)
    for pid in found:
        found += _children(pid, parents)
    return found


def children(pid: int) -> list[int]:
    """The children of one process, zombies included."""
    return _children(pid, None if _LISTS_CHILDREN else _parents())


def _children(pid: int, parents: dict[int, int] | None) -> list[int]:
    if parents is not None:
        return [child for child, parent in parents.items() if parent == pid]
    # A process belongs to the thread that forked it, so each thread has a list of its own.
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208  # pathlib costs 5 ms at start
    except OSError:
        return found
    for thread in threads:
        found += [int(child) for child in _read(f"/proc/{pid}/task/{thread}/children").split()]
    return found


def _parents() -> dict[int, int]:
    """The parent of each process: what gVisor shows instead of lists of children."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  # the same
        if name.isdigit():
            fields = _read(f"/proc/{name}/stat").rpartition(b")")[2].split()
            found[int(name)] = int(fields[1]) if fields else 0
    return found


def started_since(root: int, moment: float) -> list[int]:
    """The processes below ``root`` that were started after ``moment`` (``now``)."""
    first = int(moment * _TICKS)
    return [pid for pid in descendants(root) if _start(pid) >= first]


def now() -> float:
    """The time in seconds by the clock that the starts of processes are measured with."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _start(pid: int) -> int:
    # After the name, which may hold anything, come the fields from the third on.
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[19]) if len(fields) > 19 else 0


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # pathlib costs 5 ms at start
            return file.read()
    except OSError:
        return b""


def kill(pid: int, number: int = SIGKILL) -> None:
    """Send a signal to a process that may be gone already."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def kill_group(leader: int, number: int) -> None:
    """Send a signal to a process group that may be gone already."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        return


def end_all_below() -> None:
    """Kill everything below this process, a subreaper, and wait until it is gone."""
    for _ in range(_ROUNDS):  # a process that is being killed may still have forked
        below = descendants(os.getpid())
        for pid in below:
            kill(pid)
        reap()
        if not below:
            return
        time.sleep(_PAUSE if children(os.getpid()) else 0)


def reap() -> dict[int, int]:
    """Collect all children that have ended: their exit statuses, as a shell has them, by pid."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        code = os.waitstatus_to_exitcode(status)
        ended[pid] = code if code >= 0 else 128 - code
