"""Reads a workspace into trees, without ever following a link and without reading twice.

Every folder is opened by itself, relative to the one before: what a tool plants meanwhile cannot
lead the reading out of the workspace. A file is read only when its size, times and inode are not
those that it had when it was read last.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from corral.errors import UsageError
from corral.runtime.snapshots.rules import MAX_DEPTH, Bounds
from corral.runtime.snapshots.trees import (
    File,
    Folder,
    LeftOut,
    Link,
    Owner,
    Tree,
    digest_of,
    encode,
    join,
)
from corral.sandbox.guest.names import TRASH

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

PERMISSIONS = 0o777
"""The bits of a mode that are kept. Set-user-id and its like are not: nobody asked for them."""

_RACY = 2 * 10**9
"""Nanoseconds: a file that changed so shortly before it was read may change again unnoticed."""

_TRIES = 3

Sink = Callable[[str, bytes], None]
"""Takes each content that was read, and each tree, with its digest."""


class Known(NamedTuple):
    """How a file looked when it was read (its inode's change covers its permissions), and what
    it held.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    digest: str


_NOTHING: Mapping[str, Known] = {}

Cache = Mapping[str, Mapping[str, Known]]
"""By folder and by name: the files that need not be read again."""


@dataclass
class Found:
    """One folder as it was walked: ``tree`` grows until all that is ``unread`` has been read."""

    path: str
    mode: int
    owner: Owner
    tree: Tree = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    folders: dict[str, Found] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)
    digest: str = ""


@dataclass(frozen=True)
class Scan:
    """A workspace as it was read: its outermost folder, and every folder by path."""

    root: str
    folders: dict[str, Found]
    files: int
    size: int


@contextmanager
def opened(root: str, path: str) -> Iterator[int]:
    """A folder of a workspace, reached without following a link. Raises ``OSError``.

    The workspace itself may be a link: the user has named it.
    """
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in path.split("/") if path else ():
            inner = os.open(name, FOLDER, dir_fd=here)
            os.close(here)
            here = inner
        yield here
    finally:
        os.close(here)


class Scanner:
    """One reading of a workspace. ``stop`` ends it early, from another thread."""

    def __init__(
        self, root: str, bounds: Bounds, cache: Cache, stop: threading.Event | None = None
    ) -> None:
        self._root = root
        self._bounds = bounds
        self._cache = cache
        self._stop = stop or threading.Event()
        self._began = time.time_ns()
        self._folders: dict[str, Found] = {}
        self._count = 0
        self._size = 0

    def scan(self, sink: Sink) -> Scan:
        """Read the workspace; ``sink`` gets the contents that are new and all trees.

        Raises ``UsageError`` when it holds more than the bounds allow (before anything is read),
        ``OSError`` when it cannot be opened.
        """
        with opened(self._root, "") as folder:
            status = os.fstat(folder)
            self._device = status.st_dev
            top = self._walk(folder, "", status)
        for found in self._folders.values():
            if found.unread:
                self._read_folder(found, sink)
        self._seal(top, sink)
        return Scan(top.digest, self._folders, self._count, self._size)

    def _walk(self, folder: int, path: str, status: os.stat_result) -> Found:
        found = Found(path, stat.S_IMODE(status.st_mode) & PERMISSIONS, _owner(status))
        if self._stop.is_set():
            raise UsageError("The reading of the workspace was stopped.")
        names = sorted(os.listdir(folder))
        reason = self._bounds.whole_folder(names)
        for name in names:
            if name == TRASH and not path:
                continue  # the snapshots from before have what was deleted
            why = reason or self._bounds.excluded(path, name)
            if why is not None:
                found.tree[name] = LeftOut(why)
            else:
                self._entry(found, folder, name)
        self._folders[path] = found
        return found

    def _entry(self, found: Found, folder: int, name: str) -> None:
        self._count += 1
        if self._count > self._bounds.max_files:
            raise self._bounds.too_many()
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._folder(found, folder, name, status)
            elif stat.S_ISREG(status.st_mode):
                self._file(found, name, status)
            elif stat.S_ISLNK(status.st_mode):
                found.tree[name] = Link(os.readlink(name, dir_fd=folder))
            else:
                found.tree[name] = LeftOut("not a file, a folder or a link")
        except FileNotFoundError:
            pass  # gone since the folder was listed
        except OSError as error:
            found.tree[name] = LeftOut(_cannot(error))

    def _folder(self, found: Found, parent: int, name: str, status: os.stat_result) -> None:
        path = join(found.path, name)
        if status.st_dev != self._device:
            found.tree[name] = LeftOut("another file system")
            return
        if path.count("/") >= MAX_DEPTH:
            found.tree[name] = LeftOut(f"more than {MAX_DEPTH} folders deep")
            return
        folder = os.open(name, FOLDER, dir_fd=parent)
        try:
            found.folders[name] = self._walk(folder, path, os.fstat(folder))
        finally:
            os.close(folder)

    def _file(self, found: Found, name: str, status: os.stat_result) -> None:
        if status.st_size > self._bounds.max_file:
            found.tree[name] = LeftOut(self._bounds.too_large, status.st_size)
            return
        self._size += status.st_size
        if self._size > self._bounds.max_total:
            raise self._bounds.too_much()
        before = self._cache.get(found.path, _NOTHING).get(name)
        if before is None or before[:4] != _stamp(status):
            found.unread.append(name)
            return
        found.known[name] = before
        found.tree[name] = _file(status, before.digest)

    def _read_folder(self, found: Found, sink: Sink) -> None:
        try:
            with opened(self._root, found.path) as folder:
                for name in found.unread:
                    self._read(found, folder, name, sink)
        except OSError as error:
            # The folder was exchanged or closed to us meanwhile.
            for name in found.unread:
                found.tree.setdefault(name, LeftOut(_cannot(error)))

    def _read(self, found: Found, folder: int, name: str, sink: Sink) -> None:
        if self._stop.is_set():
            raise UsageError("The reading of the workspace was stopped.")
        try:
            content, status = content_of(folder, name, self._bounds.max_file)
        except FileNotFoundError:
            return
        except OSError as error:
            found.tree[name] = LeftOut(_cannot(error))
            return
        if content is None:
            found.tree[name] = LeftOut("it was being written while it was read", status.st_size)
            return
        digest = digest_of(content)
        sink(digest, content)
        found.tree[name] = _file(status, digest)
        if max(status.st_mtime_ns, status.st_ctime_ns) < self._began - _RACY:
            found.known[name] = Known(*_stamp(status), digest)

    def _seal(self, found: Found, sink: Sink) -> None:
        """Name a folder by what it holds, the inner ones first."""
        for name, inner in found.folders.items():
            self._seal(inner, sink)
            found.tree[name] = Folder(inner.digest, inner.mode, inner.owner)
        content = encode(found.tree)
        found.digest = digest_of(content)
        sink(found.digest, content)


def content_of(folder: int, name: str, limit: int) -> tuple[bytes | None, os.stat_result]:
    """A file's content and how it looked; no content if it does not hold still."""
    fd = os.open(name, _FILE, dir_fd=folder)
    with os.fdopen(fd, "rb", buffering=0) as file:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(None, "it is no file any more")
        for _ in range(_TRIES):
            file.seek(0)
            content = _read_all(file.fileno(), limit)
            after = os.fstat(fd)
            if _stamp(before) == _stamp(after) and len(content) == after.st_size:
                return content, after
            before = after
    return None, before


def _read_all(fd: int, limit: int) -> bytes:
    parts: list[bytes] = []
    room = limit + 1
    while room > 0 and (part := os.read(fd, min(room, 2**20))):
        parts.append(part)
        room -= len(part)
    return b"".join(parts)


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _file(status: os.stat_result, digest: str) -> File:
    owner = (status.st_uid, status.st_gid)
    return File(digest, status.st_size, status.st_mode & PERMISSIONS, owner)


def _owner(status: os.stat_result) -> Owner:
    return status.st_uid, status.st_gid


def _cannot(error: OSError) -> str:
    return f"it cannot be read: {error.strerror}"
