"""Makes a workspace what a snapshot says: only where it differs, and only what was seen.

Each change is made only where the path still is what it was when the difference was found; what
somebody has changed since is left as it is and named. So making the same changes again after a
crash does no harm and finishes the work. A file is written beside its place, flushed and renamed;
links are never followed, whoever plants them meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeGuard

from corral.errors import StorageError
from corral.runtime.snapshots.difference import Change, Kept
from corral.runtime.snapshots.scan import FOLDER, PERMISSIONS, content_of, opened
from corral.runtime.snapshots.trees import File, Folder, Link, Node, digest_of

_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}
"""What does not concern one path only: the rest would fail as well."""

_NO_FOLDER = {errno.ENOTDIR, errno.ELOOP}
"""What is where a folder was is no folder, so nothing is in it."""

_CHANGED = "it was changed meanwhile and is left as it is"


@dataclass(frozen=True)
class Restorer:
    """Makes changes in one workspace. ``mark`` is unique to the rewind and names its temporaries.

    Every method raises ``StorageError`` when the disk is full or broken; all that was not done
    can be done again.
    """

    root: str
    mark: str

    def remove(self, changes: Iterable[Change]) -> dict[str, str]:
        """Take away what goes or becomes something else; what could not be, and why."""
        everything = list(changes)
        staying = [c for c in everything if isinstance(c.before, Folder) and not _goes(c)]
        problems = self._each(sorted(staying, key=lambda c: c.path), _open_up)
        going = [change for change in everything if _goes(change)]
        inner_first = sorted(going, key=lambda c: c.path, reverse=True)
        return problems | self._each(inner_first, _remove)

    def make_folders(self, changes: Iterable[Change]) -> dict[str, str]:
        """Make the folders that are to be, the outer ones first."""
        coming = [c for c in changes if isinstance(c.after, Folder)]
        return self._each(sorted(coming, key=lambda c: c.path), _make_folder)

    def write(self, changes: Iterable[Change], contents: Mapping[str, bytes]) -> dict[str, str]:
        """Write files and links; ``contents`` holds those of the files, by digest."""

        def put(folder: int, name: str, change: Change) -> str | None:
            return self._put(folder, name, change, contents)

        return self._each([c for c in changes if isinstance(c.after, File | Link)], put)

    def finish_folders(self, changes: Iterable[Change]) -> dict[str, str]:
        """Give the folders their permissions, the inner ones first, and flush what was renamed."""
        all_changes = list(changes)
        folders = [c for c in all_changes if isinstance(c.after, Folder)]
        problems = self._each(sorted(folders, key=lambda c: c.path, reverse=True), _permit)
        for path in {change.path.rpartition("/")[0] for change in all_changes}:
            try:
                with opened(self.root, path) as folder:
                    os.fsync(folder)
            except OSError as error:
                _stop_if_fatal(error, path)
        return problems

    def _each(
        self, changes: Sequence[Change], act: Callable[[int, str, Change], str | None]
    ) -> dict[str, str]:
        problems: dict[str, str] = {}
        for change in changes:
            folder, _, name = change.path.rpartition("/")
            try:
                with opened(self.root, folder) as fd:
                    problem = act(fd, name, change)
            except FileNotFoundError:
                problem = None if change.after is None else "its folder is missing"
            except OSError as error:
                _stop_if_fatal(error, change.path)
                gone = change.after is None and error.errno in _NO_FOLDER
                problem = None if gone else _why(error)
            if problem is not None:
                problems[change.path] = problem
        return problems

    def _put(
        self, folder: int, name: str, change: Change, contents: Mapping[str, bytes]
    ) -> str | None:
        node = change.after
        temporary = f".{self.mark}.{digest_of(os.fsencode(name))[:16]}.tmp"
        _unlink(folder, temporary)  # a crash may have left it behind
        found = _standing(folder, name, change)
        if _is(found, node):
            return _permit(folder, name, change) if isinstance(node, File) else None
        if found is not None and not _is(found, change.before):
            return _CHANGED
        if isinstance(node, File) and node.digest not in contents:
            return "what it held is missing from the database, or damaged"
        try:
            if isinstance(node, Link):
                os.symlink(node.target, temporary, dir_fd=folder)
            elif isinstance(node, File):
                _write(folder, temporary, node, contents[node.digest])
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            _unlink(folder, temporary)
            raise
        return None


def _open_up(folder: int, name: str, change: Change) -> str | None:
    """Let us change what is in a folder whose permissions will change anyway."""
    found = _standing(folder, name, change)
    if isinstance(found, Folder) and found.mode & 0o700 != 0o700:
        inner = os.open(name, FOLDER, dir_fd=folder)
        try:
            os.fchmod(inner, found.mode | 0o700)
        finally:
            os.close(inner)
    return None


def _remove(folder: int, name: str, change: Change) -> str | None:
    found = _standing(folder, name, change)
    if found is None or _is(found, change.after):
        return None
    if not _is(found, change.before):
        return _CHANGED
    if isinstance(change.before, Folder):
        os.rmdir(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)
    return None


def _make_folder(folder: int, name: str, change: Change) -> str | None:
    found = _standing(folder, name, change)
    if found is None:
        os.mkdir(name, 0o700, dir_fd=folder)
    elif not isinstance(found, Folder):
        return _CHANGED
    return None


def _goes(change: Change) -> bool:
    """Whether what is there has to go first: it is not to be, or is to be another kind of thing."""
    if change.before is None:
        return False
    folders = isinstance(change.before, Folder), isinstance(change.after, Folder)
    return change.after is None or folders[0] != folders[1]


def _standing(folder: int, name: str, change: Change) -> Node | None:
    """What is at a path now. A folder is not looked into.

    What can be neither of the change's two sides has no digest, and is not read.
    """
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        mode, owner = stat.S_IMODE(status.st_mode) & PERMISSIONS, (status.st_uid, status.st_gid)
        if stat.S_ISDIR(status.st_mode):
            return Folder("", mode, owner)
        if stat.S_ISLNK(status.st_mode):
            return Link(os.readlink(name, dir_fd=folder))
        digest, expected = "", {n.size for n in (change.before, change.after) if _is_file(n)}
        if stat.S_ISREG(status.st_mode) and status.st_size in expected:
            content, _ = content_of(folder, name, status.st_size)
            digest = digest_of(content) if content is not None else ""
    except FileNotFoundError:
        return None
    return File(digest, status.st_size, mode, owner)


def _is_file(node: Kept) -> TypeGuard[File]:
    return isinstance(node, File)


def _is(found: Kept, node: Kept) -> bool:
    """Whether what stands there holds what a node says; permissions apart."""
    match found, node:
        case File(digest=here), File(digest=there):
            return here == there
        case Link(target=here), Link(target=there):
            return here == there
        case Folder(), Folder():
            return True
        case _:
            return False


def _write(folder: int, name: str, node: File, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=folder)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        _own(fd, node)
        os.fchmod(fd, node.mode)
        os.fsync(fd)


def _permit(folder: int, name: str, change: Change) -> str | None:
    """Give a file or folder that is there its owner and its permissions."""
    node = change.after
    assert isinstance(node, File | Folder)
    kind = FOLDER if isinstance(node, Folder) else os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(name, kind | os.O_CLOEXEC, dir_fd=folder)
    try:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        _own(fd, node)
        if mode & PERMISSIONS != node.mode:
            os.fchmod(fd, (mode & ~PERMISSIONS) | node.mode)
    finally:
        os.close(fd)
    return None


def _own(fd: int, node: File | Folder) -> None:
    if os.geteuid() == 0:
        os.fchown(fd, *node.owner)


def _unlink(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _stop_if_fatal(error: OSError, path: str) -> None:
    if error.errno in _FATAL:
        raise StorageError(
            f"The files could not all be put back: {path or 'the workspace'}: {error.strerror}.",
            hint="Make room (or mend the disk), then run `corral rewind THREAD` to finish.",
        ) from error


def _why(error: OSError) -> str:
    if error.errno in _NO_FOLDER:
        return "a link or a file is where its folder was; nobody follows it"
    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
        return "something was put into it meanwhile"
    return f"it cannot be written: {error.strerror}"
