"""How much a process tree has made folders grow, without looking at all files all the time.

The file system's own count of used space is cheap and belongs to everybody; it says only when to
look. A look goes through the folders, and through the files that the tree holds open without a
name. What could be hidden from both is bounded by what the tree has written.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_BLOCK = 512
_CLOCK = 1.0  # seconds by which the times of files may be behind
_SHARE_UNSEEN = 20  # growth below a twentieth of the limit is not looked at


class Look(NamedTuple):
    """What folders take up in bytes, and the files in them that changed since a moment.

    ``whole`` is false if a folder could not be looked into.
    """

    taken: int
    changed: int
    whole: bool


class Growth:
    """The growth of ``folders`` since now, against a limit in bytes."""

    def __init__(self, folders: Sequence[str], limit: int) -> None:
        self._folders = folders
        self._limit = limit
        self._began = time.time() - _CLOCK
        self._used = _used_space(folders)
        self._base: int | None = None
        self._next_look = limit // _SHARE_UNSEEN

    def suspicious(self) -> bool:
        """Whether the file systems have grown so much that it is time to look. Cheap."""
        return _used_space(self._folders) - self._used > self._next_look

    def look(self, pids: Iterable[int]) -> int:
        """Bytes that the folders have grown by, the doing of ``pids``, which should not run."""
        pids = list(pids)
        on_disk = _used_space(self._folders) - self._used
        found = look(self._folders, self._began)
        unnamed = sum(_without_name(pid) for pid in pids)
        taken = found.taken + unnamed
        if self._base is None:
            # Of the growth before the first look, others on this machine may have their share.
            self._base = taken - min(max(on_disk, 0), found.changed + unnamed)
        grown = taken - self._base
        hidden = min(on_disk, sum(_written(pid) for pid in pids)) - grown
        if not found.whole or hidden > self._limit:
            grown += max(hidden, 0)
        left = max(self._limit - grown, 0)
        self._next_look = on_disk + max(left // 2, self._limit // _SHARE_UNSEEN)
        return grown


def look(folders: Sequence[str], since: float) -> Look:
    """What all files below ``folders`` take up. Links are not followed, nor other file systems."""
    taken, changed, whole = 0, 0, True
    there = filter(os.path.lexists, folders)
    queue = [(folder, os.lstat(folder).st_dev) for folder in there]
    while queue:
        folder, device = queue.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            whole = False
            continue
        for entry in entries:
            status = _status(entry)
            if status is not None and status.st_dev == device:
                taken += status.st_blocks * _BLOCK
                if status.st_ctime >= since:
                    changed += status.st_blocks * _BLOCK
                if stat.S_ISDIR(status.st_mode):
                    queue.append((entry.path, device))
    return Look(taken, changed, whole)


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None  # somebody else has removed it meanwhile


def _used_space(folders: Sequence[str]) -> int:
    used = {}
    for folder in folders:
        # One that is made by the sandbox's start may not be there yet.
        status = os.statvfs(folder if os.path.lexists(folder) else folder.rpartition("/")[0])
        used[status.f_fsid] = (status.f_blocks - status.f_bfree) * status.f_frsize
    return sum(used.values())


def _without_name(pid: int) -> int:
    """Bytes of the regular files that a process holds open after they were removed."""
    held: dict[tuple[int, int], int] = {}
    base = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(base):  # noqa: PTH208 -- the launcher does without pathlib
            status = os.stat(f"{base}/{name}")  # noqa: PTH116 -- the same
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                held[status.st_dev, status.st_ino] = status.st_blocks * _BLOCK
    except OSError:
        return sum(held.values())
    return sum(held.values())


def _written(pid: int) -> int:
    """Bytes that a process and its ended children have written to disks."""
    try:
        with open(f"/proc/{pid}/io") as file:  # noqa: PTH123 -- the same
            counts = dict(line.split(": ") for line in file)
        return int(counts["write_bytes"])
    except (OSError, ValueError, KeyError):
        return 0
