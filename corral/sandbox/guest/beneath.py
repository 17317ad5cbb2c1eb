"""Files by an open folder and one name in it: never through a link, never waiting, whole or not.

What somebody else exchanges meanwhile can make an operation fail, and cannot lead it elsewhere.
Both sides of the sandbox use this: the host for the files of a sandbox, the servers inside it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened: not through a link."""

PERMISSIONS = 0o777
"""The bits of a mode that are kept; set-user-id and its like never are."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Unfit(Exception):
    """What is there is not what was asked for; the text follows its name: "is a pipe"."""


def kind(mode: int) -> str:
    """What a file is, in words."""
    return _KINDS.get(stat.S_IFMT(mode), "a file")


def status_of(folder: int, name: str) -> os.stat_result | None:
    """What is known of what stands there, links not followed; ``None`` when nothing does."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def regular(folder: int, name: str) -> os.stat_result | None:
    """What is known of a regular file, ``None`` when there is none.

    Raises ``Unfit`` for anything else that exists.
    """
    status = status_of(folder, name)
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise Unfit(f"is {kind(status.st_mode)}, not a file")
    return status


def open_regular(folder: int, name: str) -> int:
    """Open a regular file for reading. Raises ``Unfit`` for anything else, ``OSError``.

    It is looked at before it is opened: opening some devices does something already.
    """
    if regular(folder, name) is None:
        raise FileNotFoundError(2, os.strerror(2), name)
    fd = os.open(name, _READ, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Unfit("changed while it was opened; try again")
    return fd


def names_in(folder: int) -> list[str]:
    """What is in an open folder, by name."""
    return sorted(os.listdir(folder))


@contextmanager
def opened(folder: int, name: str) -> Iterator[int]:
    """A folder in a folder, for as long as the context lasts. Raises ``OSError``."""
    inner = os.open(name, FOLDER, dir_fd=folder)
    try:
        yield inner
    finally:
        os.close(inner)


def stage(folder: int, name: str, data: bytes, mode: int | None = None) -> str:
    """Write a file beside its place, flushed to the disk; the name that it has there.

    It gets the permissions ``mode``, else those of the file that it will replace, else the usual
    ones. Raises ``Unfit`` where something other than a file stands in its place.
    """
    status = regular(folder, name)
    if mode is None and status is not None:
        mode = status.st_mode
    temporary = f".{name[:40]}.{os.urandom(6).hex()}.tmp"
    fd = os.open(temporary, _CREATE, 0o666, dir_fd=folder)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if mode is not None:
                os.fchmod(file.fileno(), mode & PERMISSIONS)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        discard(folder, temporary)
        raise
    return temporary


def discard(folder: int, name: str) -> None:
    """Take away a file that was written beside its place, if it is still there."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def replace(folder: int, name: str, data: bytes, mode: int | None = None) -> bool:
    """Create or replace a file, whole or not at all, and on the disk; whether it is new.

    Another name of the file that was there (a hard link) keeps the old content.
    """
    new = status_of(folder, name) is None
    temporary = stage(folder, name, data, mode)
    try:
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        discard(folder, temporary)
        raise
    os.fsync(folder)
    return new


def remove(folder: int, name: str) -> None:
    """Remove a file, a link, or a folder with all that is in it. Raises ``OSError``.

    Without recursion, so that no depth is too much: what is in a folder is moved up and removed
    from there.
    """
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=folder)
        return
    waiting = [name]
    while waiting:
        with opened(folder, waiting[-1]) as inner:
            deeper = _emptied(inner, folder)
        if deeper:
            waiting += deeper
        else:
            os.rmdir(waiting.pop(), dir_fd=folder)


def _emptied(inner: int, folder: int) -> list[str]:
    """Take everything out of a folder; the names under which its folders now are in ``folder``."""
    moved: list[str] = []
    for name in names_in(inner):
        status = os.stat(name, dir_fd=inner, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            aside = f".removed.{os.urandom(8).hex()}"
            os.rename(name, aside, src_dir_fd=inner, dst_dir_fd=folder)
            moved.append(aside)
        else:
            os.unlink(name, dir_fd=inner)
    return moved
