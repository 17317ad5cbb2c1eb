"""Deleted files wait in a folder of the workspace, bounded in age, number and size.

Each deletion has a folder of its own there, with what was deleted (``item``) and where it was
(``info.json``). Both may be the work of untrusted code: what stands there is read with care, and
never decides where something is written.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import isfinite
from typing import NamedTuple

from corral.mcp_servers.beneath import Place, folded
from corral.mcp_servers.files.walking import MAX_DEPTH
from corral.mcp_servers.tool import ToolFault
from corral.sandbox.guest import beneath
from corral.sandbox.guest.beneath import Unfit
from corral.sandbox.guest.names import PROTECTED, TRASH

MAX_AGE = 30 * 24 * 3600
"""Seconds after which something deleted is gone for good."""

MAX_ITEMS = 1000
MAX_SIZE = 1024**3
"""How much the trash of a workspace holds, in bytes; the oldest goes first."""

_ITEM, _INFO = "item", "info.json"
_MAX_INFO = 64 * 1024
_MAX_COUNTED = 100_000


class Deleted(NamedTuple):
    """Something in the trash: its folder there, where it was, when it went, its size in bytes."""

    id: str
    path: str
    time: float
    size: int


def discard(place: Place) -> Deleted:
    """Move what stands at a place to the trash. Raises ``ToolFault`` and ``OSError``."""
    size = measured(place)
    now = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
    deleted = Deleted(f"{stamp}-{os.urandom(4).hex()}", place.shown, now, size)
    with _trash(place.root.fd, create=True) as trash:
        os.mkdir(deleted.id, dir_fd=trash)
        with beneath.opened(trash, deleted.id) as slot:
            info = {"path": deleted.path, "time": now, "size": size}
            beneath.replace(slot, _INFO, json.dumps(info).encode())
            try:
                os.rename(place.name, _ITEM, src_dir_fd=place.folder, dst_dir_fd=slot)
            except OSError as error:
                beneath.remove(trash, deleted.id)
                if error.errno in (errno.EXDEV, errno.EBUSY):
                    raise ToolFault(
                        f"{place.shown} cannot be moved to the trash: it holds, or is on, "
                        "another file system."
                    ) from error
                raise
            os.fsync(slot)
        os.fsync(place.folder)
        _prune(trash, deleted)
    return deleted


def listed(root: int) -> list[Deleted]:
    """What is in a workspace's trash, the newest first."""
    try:
        with _trash(root) as trash:
            found = [_read(trash, name) for name in beneath.names_in(trash)]
    except FileNotFoundError:
        return []
    return sorted((one for one in found if one is not None), key=lambda one: -one.time)


def restore(place: Place, deleted: Deleted) -> None:
    """Put something back where nothing stands. Raises ``ToolFault`` and ``OSError``."""
    if place.name == "." or beneath.status_of(place.folder, place.name) is not None:
        raise ToolFault(f"{place.shown} exists again: move it away first.")
    with _trash(place.root.fd) as trash:
        with beneath.opened(trash, deleted.id) as slot:
            os.rename(_ITEM, place.name, src_dir_fd=slot, dst_dir_fd=place.folder)
        os.fsync(place.folder)
        beneath.remove(trash, deleted.id)


def measured(place: Place) -> int:
    """The size of what is to be moved, in bytes, roughly for a very large folder.

    Raises ``ToolFault`` for a granted folder itself, and where a protected name is inside.
    """
    if place.is_root or place.name == ".":
        raise ToolFault("The workspace itself stays where it is: name something inside it.")
    status = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size
    with beneath.opened(place.folder, place.name) as folder:
        size = 0
        for count, (name, one) in enumerate(_below(folder)):
            reason = PROTECTED.get(folded(name))
            if reason is not None:
                raise ToolFault(f"{place.shown} stays: {name} in it is protected, {reason}.")
            if count >= _MAX_COUNTED:
                break
            size += one.st_size
    return size


def _below(folder: int, depth: int = 0) -> Iterator[tuple[str, os.stat_result]]:
    if depth > MAX_DEPTH:
        raise ToolFault(f"There are more than {MAX_DEPTH} folders inside of one another.")
    for name in beneath.names_in(folder):
        status = beneath.status_of(folder, name)
        if status is not None:
            yield name, status
            if stat.S_ISDIR(status.st_mode):
                with suppress(OSError), beneath.opened(folder, name) as inner:
                    yield from _below(inner, depth + 1)


@contextmanager
def _trash(root: int, *, create: bool = False) -> Iterator[int]:
    """The open trash of a workspace. Raises ``FileNotFoundError`` and ``ToolFault``."""
    if create:
        with suppress(FileExistsError):
            os.mkdir(TRASH, 0o700, dir_fd=root)
    try:
        with beneath.opened(root, TRASH) as trash:
            if create and beneath.status_of(trash, ".gitignore") is None:
                beneath.replace(trash, ".gitignore", b"*\n")
            yield trash
    except NotADirectoryError as error:
        raise ToolFault(f"{TRASH} is not the folder that it should be: move it away.") from error


def _read(trash: int, name: str) -> Deleted | None:
    """One deletion; ``None`` for what is none, or was tampered with."""
    try:
        with beneath.opened(trash, name) as slot:
            with os.fdopen(beneath.open_regular(slot, _INFO), "rb") as file:
                info = json.loads(file.read(_MAX_INFO))
            there = beneath.status_of(slot, _ITEM) is not None
        path, when, size = str(info["path"]), float(info["time"]), int(info["size"])
    except (OSError, Unfit, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    return Deleted(name, path, when, size) if there and isfinite(when) else None


def _prune(trash: int, newest: Deleted) -> None:
    """Let go what is too old or too much, the newest always stays."""
    names = [name for name in beneath.names_in(trash) if name != ".gitignore"]
    found = {name: _read(trash, name) for name in names}
    total = newest.size
    kept = sorted((one for one in found.values() if one is not None), key=lambda one: -one.time)
    for count, one in enumerate(kept):
        old = newest.time - one.time > MAX_AGE
        if one.id == newest.id:
            continue
        if old or count >= MAX_ITEMS or total + one.size > MAX_SIZE:
            found[one.id] = None
        else:
            total += one.size
    for name in (name for name, one in found.items() if one is None):
        with suppress(OSError):
            beneath.remove(trash, name)
