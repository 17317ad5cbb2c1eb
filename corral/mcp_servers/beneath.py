"""Paths that cannot leave their folder, whoever exchanges what meanwhile.

Every component is opened by itself, relative to the one before and never through a symbolic
link; a link is read and walked the same way, so one that stays inside works and one that leads
out does not. (The kernel's ``openat2`` would do, but a sandbox's filter cannot look into its
arguments and so refuses it.)
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from corral.mcp_servers.tool import ToolFault

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40
_PROTECTED = {".git": "it is git's own", "corral.toml": "it configures Corral"}


class Place(NamedTuple):
    """Where a path leads: an open folder, a name in it (``.`` for the folder itself), and the
    components from the root, all links resolved. The descriptor lives as long as the context.
    """

    folder: int
    name: str
    parts: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The path from the root, as tools show it."""
        return "/".join(self.parts) or "."


class Roots:
    """The granted folders, opened once. The first is where relative paths start."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100 -- "..", but links stay
        self._fds = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in self.folders]

    @contextmanager
    def at(self, path: str, *, write: bool = False, create: bool = False) -> Iterator[Place]:
        """Walk to a path; its last component need not exist. ``create`` makes folders on the way.

        Raises ``ToolFault`` for a path outside of the roots, through something else than
        folders, or, to ``write``, through a protected name; ``FileNotFoundError`` when a folder
        on the way is missing.
        """
        if "\0" in path:
            raise ToolFault("A path cannot hold a NUL character.")
        index, rest = self._split(path)
        walk = _Walk(self._fds[index], self.folders[index], path, write=write)
        try:
            yield walk.go(rest, create=create)
        finally:
            walk.close()

    def _split(self, path: str) -> tuple[int, list[str]]:
        if not path.startswith("/"):
            return 0, path.split("/")
        wanted = Path(path)
        for index, folder in enumerate(self.folders):
            if folder == wanted or folder in wanted.parents:
                return index, list(wanted.relative_to(folder).parts)
        allowed = ", ".join(str(folder) for folder in self.folders)
        raise ToolFault(f"{path} is outside of the granted folders: {allowed}.")


class _Walk:
    def __init__(self, root: int, folder: Path, path: str, *, write: bool) -> None:
        self._root, self._folder, self._path, self._write = root, folder, path, write
        self._opened: list[tuple[str, int]] = []
        self._links = 0

    def close(self) -> None:
        while self._opened:
            os.close(self._opened.pop()[1])

    def go(self, parts: list[str], *, create: bool) -> Place:
        for part in parts:  # before any folder is made
            self._check(part)
        pending = deque(part for part in parts if part not in {"", "."})
        while pending:
            part = pending.popleft()
            self._check(part)
            if part == "..":
                self._up()
            elif (target := self._link(part)) is not None:
                self._follow(target, pending)
            elif pending:
                self._enter(part, create=create)
            else:
                return Place(self._here, part, (*self._names, part))
        return Place(self._here, ".", self._names)

    def _check(self, part: str) -> None:
        reason = _PROTECTED.get(part.lower()) if self._write else None
        if reason:
            raise ToolFault(f"{self._path} cannot be written: {part} is protected, {reason}.")

    @property
    def _here(self) -> int:
        return self._opened[-1][1] if self._opened else self._root

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._opened)

    def _up(self) -> None:
        if not self._opened:
            raise ToolFault(f"{self._path} leads out of the granted folder.")
        os.close(self._opened.pop()[1])

    def _link(self, part: str) -> str | None:
        try:
            return os.readlink(part, dir_fd=self._here)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return None
            raise

    def _follow(self, target: str, pending: deque[str]) -> None:
        self._links += 1
        if self._links > _MAX_LINKS:
            raise ToolFault(f"{self._path} goes through too many symbolic links.")
        if target.startswith("/"):
            wanted = Path(target)
            if self._folder != wanted and self._folder not in wanted.parents:
                raise ToolFault(f"{self._path} is a link that leads out of the granted folder.")
            self.close()
            target = str(wanted.relative_to(self._folder))
        steps = [part for part in target.split("/") if part not in {"", "."}]
        pending.extendleft(reversed(steps))

    def _enter(self, part: str, *, create: bool) -> None:
        here = self._here
        try:
            try:
                folder = os.open(part, _FOLDER, dir_fd=here)
            except FileNotFoundError:
                if not create:
                    raise
                os.mkdir(part, dir_fd=here)
                folder = os.open(part, _FOLDER, dir_fd=here)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise ToolFault(f"{self._path}: {part} is not a folder.") from error
            raise
        self._opened.append((part, folder))


def open_folder(place: Place) -> int:
    """Open a folder for listing."""
    try:
        return os.open(place.name, _FOLDER, dir_fd=place.folder)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise ToolFault(f"{place.shown} is not a folder.") from error
        raise


def open_regular(place: Place) -> int:
    """Open a regular file for reading; nothing else is opened, and nothing blocks."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    check_regular(place, missing_ok=False)
    fd = os.open(place.name, flags, dir_fd=place.folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ToolFault(f"{place.shown} changed while it was opened; try again.")
    return fd


def check_regular(place: Place, *, missing_ok: bool) -> os.stat_result | None:
    """What is known of a regular file. Raises ``ToolFault`` for anything else that exists."""
    try:
        status = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        if missing_ok:
            return None
        raise
    if not stat.S_ISREG(status.st_mode):
        raise ToolFault(f"{place.shown} is {kind(status.st_mode)}, not a file.")
    return status


def kind(mode: int) -> str:
    """What a file is, in words."""
    names = {
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a link",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return names.get(stat.S_IFMT(mode), "a file")
