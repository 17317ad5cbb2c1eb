"""Which files a piece of work has made or changed, found by their times of change."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from corral.sandbox.guest.names import TRASH

MAX_NAMED = 50
_MAX_VISITED = 20_000
_TICK = 10_000_000  # CONFIG_HZ is 100 or more
_UNSEEN = frozenset({".git", "__pycache__", TRASH})


class Produced(NamedTuple):
    """Paths relative to the folder, the latest last. ``more``: there are others."""

    paths: list[str]
    more: bool

    def note(self) -> str:
        """A line that names them; empty when there are none."""
        if not self.paths:
            return ""
        return f"[files written: {', '.join(self.paths)}{', and more' if self.more else ''}]"


def moment() -> int:
    """The time now in nanoseconds, as the kernel stamps files with it: a tick late at most."""
    return time.time_ns() - _TICK


def changed_since(folder: str, start: int) -> Produced:
    """The regular files below ``folder`` that changed at ``start`` or later."""
    found: list[tuple[int, str]] = []
    visited = 0
    queue = [""]
    while queue and visited <= _MAX_VISITED:
        base = queue.pop()
        for entry in _entries(os.path.join(folder, base)):  # noqa: PTH118  # pathlib is ten times slower
            visited += 1
            if entry.is_dir(follow_symlinks=False):
                queue += [] if entry.name in _UNSEEN else [base + entry.name + "/"]
            elif entry.is_file(follow_symlinks=False):
                changed = _changed(entry)
                found += [(changed, base + entry.name)] if changed >= start else []
    found.sort()
    paths = [_printable(path) for _, path in found[-MAX_NAMED:]]
    return Produced(paths, len(found) > MAX_NAMED or bool(queue))


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError:
        return []


def _changed(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_ctime_ns
    except OSError:
        return 0


def _printable(path: str) -> str:
    return path if path.isprintable() else repr(path)
