"""``Files`` over an open folder of this machine that untrusted processes can change meanwhile.

Every operation opens the folder first (``walk``) and then acts on one name in it. Files are only
ever replaced, never written in place: a hard link to something else keeps what it held. A file with
several names is read like any other, because a sandbox cannot make a name for what it was not
granted: its grants are mounts of their own (or Landlock refuses), and a link does not cross them.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TypeVar

from corral.errors import SandboxError
from corral.sandbox.contract import Entry, MiB
from corral.sandbox.files.archive import Bounds, packed, unpacked
from corral.sandbox.files.owner import as_owner
from corral.sandbox.files.walk import folder_beneath, name_of, parts_of
from corral.sandbox.guest import beneath
from corral.sandbox.guest.beneath import Unfit

MAX_ENTRIES = 100_000
"""How many entries a listing may have."""

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
T = TypeVar("T")


class LocalFiles:
    """The files below the folder ``root``, an open descriptor that it keeps a copy of."""

    def __init__(self, root: int, bounds: Bounds | None = None) -> None:
        self._root = os.dup(root)
        self._bounds = bounds or Bounds()

    def close(self) -> None:
        """Let the folder go. Safe to call twice."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    async def read(self, path: str, *, limit: int = 64 * MiB) -> bytes:
        """A regular file's content; one longer than ``limit`` bytes is an error."""
        return await self._done(path, lambda: self._read(path, limit))

    async def write(self, path: str, data: bytes) -> None:
        """Create or replace a file, whole or not at all. Missing folders are made."""

        def write() -> None:
            with self._at(path, create=True) as (folder, name):
                beneath.replace(folder, name, data)

        await self._done(path, write)

    async def listing(self, path: str = ".", *, deep: bool = False) -> list[Entry]:
        """What is in a folder, or (``deep``) everything below it; links are not followed."""
        return await self._done(path, lambda: self._listing(path, deep=deep))

    async def make_folder(self, path: str) -> None:
        """Make a folder and those above it."""

        def make() -> None:
            with folder_beneath(self._root, parts_of(path), create=True):
                pass

        await self._done(path, make)

    async def move(self, source: str, target: str) -> None:
        """Rename a file or folder; a file at ``target`` is replaced. Missing folders are made."""

        def move() -> None:
            with self._at(source) as (folder, name), self._at(target, create=True) as (to, new):
                os.rename(name, new, src_dir_fd=folder, dst_dir_fd=to)

        await self._done(source, move)

    async def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it."""

        def remove() -> None:
            with self._at(path) as (folder, name):
                beneath.remove(folder, name)

        await self._done(path, remove)

    async def put_archive(self, archive: bytes, path: str = ".") -> int:
        """Unpack a tar or zip archive; how many entries. All of them are checked first."""

        def put() -> int:
            with folder_beneath(self._root, parts_of(path), create=True) as folder:
                return unpacked(archive, folder, self._bounds)

        return await self._done(path, put)

    async def get_archive(self, path: str = ".") -> bytes:
        """A folder as a tar archive, without links, devices and set-id bits."""

        def get() -> bytes:
            with folder_beneath(self._root, parts_of(path)) as folder:
                return packed(folder, self._bounds)

        return await self._done(path, get)

    async def _done(self, path: str, act: Callable[[], T]) -> T:
        return await _done(path, self._root, act)

    @contextmanager
    def _at(self, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """The open folder that a path's last name is in, and that name."""
        *above, name = name_of(path).split("/")
        with folder_beneath(self._root, above, create=create) as folder:
            yield folder, name

    def _read(self, path: str, limit: int) -> bytes:
        with self._at(path) as (folder, name):
            fd = beneath.open_regular(folder, name)
            try:
                data = _whole(fd, limit)
            finally:
                os.close(fd)
        if data is None:
            raise SandboxError(
                f"{path} is longer than {limit} bytes.", hint="Ask for it with a higher limit."
            )
        return data

    def _listing(self, path: str, *, deep: bool) -> list[Entry]:
        found: list[Entry] = []
        start = parts_of(path)
        waiting = [PurePosixPath(*start)]
        while waiting:
            folder = waiting.pop()
            try:
                entries = self._entries(folder)
            except (FileNotFoundError, SandboxError):
                if folder.parts == start:
                    raise
                continue  # exchanged meanwhile
            found += entries
            if len(found) > MAX_ENTRIES:
                raise SandboxError(
                    f"{path} holds more than {MAX_ENTRIES} entries.", hint="List a folder of it."
                )
            if deep:
                waiting += [entry.path for entry in entries if entry.kind == "folder"]
        return sorted(found, key=lambda entry: entry.path)

    def _entries(self, folder: PurePosixPath) -> list[Entry]:
        found: list[Entry] = []
        with folder_beneath(self._root, folder.parts) as fd:
            for name in beneath.names_in(fd):
                status = beneath.status_of(fd, name)
                if status is not None:
                    found.append(_entry(folder / name, status))
        return found


def _entry(path: PurePosixPath, status: os.stat_result) -> Entry:
    match _KINDS.get(stat.S_IFMT(status.st_mode)):
        case "file":
            return Entry(path, "file", status.st_size, status.st_mtime)
        case "folder":
            return Entry(path, "folder", 0, status.st_mtime)
        case "link":
            return Entry(path, "link", 0, status.st_mtime)
        case _:
            return Entry(path, "other", 0, status.st_mtime)


def _whole(fd: int, limit: int) -> bytes | None:
    """Everything in a file, ``None`` if that is more than ``limit`` bytes, however it grows."""
    parts: list[bytes] = []
    room = limit + 1
    while room > 0 and (part := os.read(fd, min(room, MiB))):
        parts.append(part)
        room -= len(part)
    return b"".join(parts) if room > 0 else None


async def _done(path: str, root: int, act: Callable[[], T]) -> T:
    """Do it in a thread; say in Corral's words what went wrong."""

    def do() -> T:
        with as_owner(root):
            return act()

    try:
        return await asyncio.to_thread(do)
    except Unfit as error:
        raise SandboxError(
            f"{path} {error}.", hint="Only regular files and folders are moved in and out."
        ) from error
    except FileNotFoundError as error:
        raise SandboxError(
            f"There is no {path} in the sandbox.", hint="List the folder to see what there is."
        ) from error
    except OSError as error:
        raise SandboxError(
            f"{path} in the sandbox: {(error.strerror or 'failed').lower()}.",
            hint="Nothing else was changed.",
        ) from error
