"""Started by root: make the granted folders reachable for an unprivileged user.

A sandbox must not run as host uid 0, which owns ``/proc/sys`` and whatever else the kernel
checks by uid alone. So the launcher drops to a plain user, who may not enter root's folders.
In a private mount namespace each folder is mounted again under a staging directory, ID-mapped:
there its owner is the plain user, on the disk nothing changes.

Source: mount_setattr(2), "ID-mapped mounts".
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from corral.sandbox.launcher import linux
from corral.sandbox.launcher.order import Bind

STAGE = "/tmp"  # noqa: S108 -- covered by a private tmpfs before anything is made in it
_LAST_ID = 2**32 - 2


class StagingError(Exception):
    """A folder cannot be handed to the sandbox's user; the text says which and what to do."""


def swap(owner: int, user: int, last: int = _LAST_ID) -> str:
    """The ID map that exchanges two ids and keeps all others, in the format of uid_map."""
    if owner == user:
        return f"0 0 {last + 1}\n"
    low, high = sorted((owner, user))
    parts = [(0, 0, low), (low, high, 1), (low + 1, low + 1, high - low - 1)]
    parts += [(high, low, 1), (high + 1, high + 1, last - high)]
    return "".join(f"{inside} {outside} {count}\n" for inside, outside, count in parts if count > 0)


def last_id() -> int:
    """The highest id of the run that starts at 0 in this user namespace."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = (int(field) for field in line.split())
        if first == 0:
            return min(count - 1, _LAST_ID)
    return 0


def prepare(user: int) -> None:
    """Make ahead, for the forks of this process, what root's own folders are mapped with."""
    if os.geteuid() == 0:
        with suppress(OSError):  # whoever needs it is told
            _id_map((0, os.getegid()), user)


@cache  # the kernel takes longer to make one than for all the rest of a stage
def _id_map(owner: tuple[int, int], user: int) -> int:
    """A user namespace that maps the owner of a folder to the sandbox's user, as a descriptor.

    It stays open for as long as this process runs the same program.
    """
    ready, tell = os.pipe()
    hold, release = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(release)
            linux.unshare(linux.CLONE_NEWUSER)
            os.write(tell, b".")
            os.read(hold, 1)
        finally:
            os._exit(0)
    os.close(tell)
    os.close(hold)
    try:
        if not os.read(ready, 1):
            raise OSError(errno.EPERM, "no user namespace can be made")
        base = Path(f"/proc/{child}")
        (base / "uid_map").write_text(swap(owner[0], user, last_id()))
        (base / "gid_map").write_text(swap(owner[1], user, last_id()))
        return os.open(base / "ns" / "user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(release)
        os.close(ready)
        os.waitpid(child, 0)


class Stage:
    """Collects folders as detached mounts, then attaches all of them under the staging directory.

    Two steps, because the staging directory may cover a folder that is still to be collected.
    """

    def __init__(self, user: int) -> None:
        self._user = user
        self._trees: list[tuple[int, bool]] = []
        try:
            linux.unshare(linux.CLONE_NEWNS)
            linux.make_private()
        except OSError as error:
            raise StagingError(
                f"started by root, but root may not mount anything here ({error.strerror}); "
                "run Corral as an ordinary user"
            ) from error

    def add(self, path: str, *, writable: bool) -> str:
        """Take one folder or file; the path at which it will be found once attached."""
        status = os.stat(path)  # noqa: PTH116 -- a fork pays for every page that pathlib touches
        owner = (status.st_uid, status.st_gid)
        try:
            tree = self._mapped(path, owner, writable)
        except OSError as error:
            if writable or error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise StagingError(_refusal(path, error)) from error
            # A file system without ID mapping still serves what everybody may read.
            tree = linux.open_tree(path, recursive=True)
        self._trees.append((tree, stat.S_ISDIR(status.st_mode)))
        return f"{STAGE}/{len(self._trees) - 1}"

    def _mapped(self, path: str, owner: tuple[int, int], writable: bool) -> int:
        attributes = linux.MOUNT_NOSUID | linux.MOUNT_NODEV | linux.MOUNT_IDMAP
        if not writable:
            attributes |= linux.MOUNT_RDONLY
        id_map = _id_map(owner, self._user)
        try:
            tree = linux.open_tree(path, recursive=True)
            linux.set_mount(tree, attributes, id_map, recursive=True)
        except OSError:
            # Something of another kind is mounted below: leave it out rather than the folder.
            tree = linux.open_tree(path, recursive=False)
            linux.set_mount(tree, attributes, id_map, recursive=False)
        return tree

    def attach(self) -> None:
        """Cover the staging directory and attach everything that was added."""
        # Without flags, which a mount below could not be rid of in a user namespace.
        linux.mount_tmpfs(STAGE, "mode=0755,size=1m", flags=0)
        for index, (tree, is_folder) in enumerate(self._trees):
            point = f"{STAGE}/{index}"
            if is_folder:
                os.mkdir(point)  # noqa: PTH102 -- the same
            else:
                os.mknod(point)
            linux.attach(tree, point)
            os.close(tree)

    def attach_in_place(self, binds: Sequence[Bind], covered: Sequence[str], size: int) -> None:
        """Attach everything at the paths that it has on the host: what was added of ``binds``.

        ``covered`` folders become private empty ones of all users, each of ``size`` bytes, and
        folders that this user may not enter become empty but for what is attached in them.
        """
        for folder in covered:
            linux.mount_tmpfs(folder, f"mode=1777,size={size},nr_inodes=100k")
        trees = iter(self._trees)
        for bind in binds:
            if not bind.source:
                linux.mount_tmpfs(os.path.realpath(bind.target), "mode=0755,size=1m")
                continue
            tree, is_folder = next(trees)
            _make_reachable(Path(bind.source), is_folder=is_folder)
            linux.attach(tree, bind.source)
            os.close(tree)


def _make_reachable(target: Path, *, is_folder: bool) -> None:
    for folder in reversed(target.parents):
        if not folder.exists():
            folder.mkdir(mode=0o755)
        elif not folder.stat().st_mode & stat.S_IXOTH:
            linux.mount_tmpfs(str(folder), "mode=0755,size=1m")
    if not target.exists():
        target.mkdir() if is_folder else target.touch()


def _refusal(path: str, error: OSError) -> str:
    return (
        f"started by root, and {path} cannot be ID-mapped for an unprivileged user "
        f"({error.strerror}); run Corral as an ordinary user, or grant a folder on ext4, xfs, "
        "btrfs or tmpfs"
    )


def drop(user: int) -> None:
    """Become a plain user without groups or capabilities, for good."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
