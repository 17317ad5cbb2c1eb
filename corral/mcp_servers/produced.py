"""Which files a piece of work has made or changed, found by their times of change."""

from __future__ import annotations

import os
from typing import NamedTuple

from corral.sandbox.guest.names import TRASH

MAX_NAMED = 50
_MAX_VISITED = 20_000
_TICK = 10_000_000
"""Nanoseconds that the time on a file may lie behind (CONFIG_HZ is 100 or more)."""

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


class Watch:
    """The regular files below a folder, as one piece of work after the other changes them."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._told: dict[str, int] = {}

    def since(self, start: float) -> Produced:
        """What changed since ``start``, a time in seconds.

        A file that may have been changed before, by its coarse time, is told if it was not yet.
        """
        begun = int(start * 1e9)
        changes, is_all = self._changes(begun - _TICK)
        found = sorted(
            (changed, path)
            for path, changed in changes.items()
            if changed >= begun or self._told.get(path) != changed
        )
        self._told = changes
        paths = [_printable(path) for _, path in found[-MAX_NAMED:]]
        return Produced(paths, len(found) > MAX_NAMED or not is_all)

    def _changes(self, since: int) -> tuple[dict[str, int], bool]:
        """The files by path, with their times of change, and whether that is all of them."""
        found: dict[str, int] = {}
        visited = 0
        queue = [""]
        while queue and visited <= _MAX_VISITED:
            base = queue.pop()
            for entry in _entries(os.path.join(self._folder, base)):  # noqa: PTH118  # pathlib is ten times slower
                visited += 1
                if entry.is_dir(follow_symlinks=False):
                    queue += [] if entry.name in _UNSEEN else [base + entry.name + "/"]
                elif entry.is_file(follow_symlinks=False) and (at := _changed(entry)) >= since:
                    found[base + entry.name] = at
        return found, not queue


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
