"""Become a command that Landlock and a system-call filter confine, without any namespace.

Landlock keeps from it every file but those named, TCP, other processes' signals and abstract
sockets; the filter what Landlock does not know. What the kernel shows to everybody it shows here,
too: the list of processes, the names and sizes of files. A user's processes are counted together.
Started by root, private mounts hide the processes and temporary folders of the host.

Source: landlock(7); linux/landlock.h.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from corral.sandbox.launcher import linux, rlimits, staging
from corral.sandbox.launcher.order import Bind, Order, Program

_LIST = 0x8
_READ = 0x1 | 0x4 | _LIST  # execute, read files, list folders
_WRITE = 0x2 | 0x10 | 0x20 | 0x80 | 0x100 | 0x400 | 0x1000 | 0x2000 | 0x4000
_OF_A_FILE = 0x1 | 0x2 | 0x4 | 0x4000  # execute, write, read, truncate
_ALL_FILES, _ALL_TCP, _ALL_SCOPES = 0xFFFF, 0x3, 0x3
_DEVICES = ("null", "zero", "full", "random", "urandom")
_FACTS = ("/proc", "/sys/devices/system/cpu")
_FIRST_OWN_USER = 2_000_000_000  # above what systemd and directories give to anybody
_SHARED_MEMORY = "/dev/shm"  # noqa: S108  # private where root can cover it, else not granted


def command(order: Order, user: int) -> Program:
    """Confine this process for good; started by root it becomes ``user`` first.

    Raises ``OSError`` or ``staging.StagingError`` when that cannot be done.
    """
    binds = [bind for bind in order.binds if bind.source]
    folders = [bind.source for bind in binds if bind.writable]
    hidden = [Path(bind.target).resolve() for bind in order.binds if not bind.source]
    readonly = [*hidden, *(Path(bind.source) for bind in binds if not bind.writable)]
    if os.geteuid() == 0:
        readonly, hidden = [], []  # its mounts are
        user = _own_user(user)
        _stage(order, user)
        staging.drop(user)
        folders += [_SHARED_MEMORY, str(Path(order.private).parent)]
    else:
        Path(order.private).mkdir(mode=0o700)
    rlimits.apply(order.rlimits)
    linux.no_new_privileges()
    ruleset = linux.create_ruleset(_ALL_FILES, _ALL_TCP, _ALL_SCOPES)
    for path in (*order.system, *_FACTS):
        _allow(ruleset, path, _READ)
    for bind in binds:
        if any(Path(bind.source) in folder.parents for folder in hidden):
            _allow(ruleset, bind.source, _LIST)
        for part in parts_beside(Path(bind.source), hidden):
            _allow(ruleset, str(part), _READ)
    for name in _DEVICES:
        _allow(ruleset, f"/dev/{name}", _READ | _WRITE)
    for folder in (*folders, order.private):
        for part in parts_beside(Path(folder), readonly):
            _allow(ruleset, str(part), _READ | _WRITE)
    linux.restrict_self(ruleset)
    os.close(ruleset)
    linux.filter_calls(base64.b64decode(order.seccomp))
    return Program(order.argv[0], order.argv, order.environment, order.workdir)


def _own_user(user: int) -> int:
    """A user that no other process has, so that only this sandbox's processes are counted."""
    own = _FIRST_OWN_USER + os.getpid()
    return own if own <= staging.last_id() else user


def parts_beside(folder: Path, others: Sequence[Path]) -> Iterator[Path]:
    """The folder, or what is in it beside the other folders that it holds.

    A right of a folder holds for all below it. So where something below stays read-only, the
    folder itself gets no right to write: nothing new can be made directly in it. Likewise where
    something is hidden: files that come into it later cannot be read.
    """
    if folder in others:
        return
    if not any(folder in path.parents for path in others):
        yield folder
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_symlink():
                yield from parts_beside(Path(entry.path), others)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_A_FILE
        linux.add_path_rule(ruleset, fd, rights)
    finally:
        os.close(fd)


def _stage(order: Order, user: int) -> None:
    """Put the granted folders where they are on the host, for a user who may enter them.

    The temporary folders of the host are covered by private ones.
    """
    stage = staging.Stage(user)
    for bind in order.binds:
        if bind.source:
            stage.add(bind.source, writable=bind.writable)
    temporary = str(Path(order.private).parent)
    covered = (temporary, _SHARED_MEMORY)
    stage.attach_in_place(order.binds, covered, order.tmp_size)
    _keep_names([bind for bind in order.binds if bind.source])
    linux.mount_proc("/proc")
    Path(order.private).mkdir(mode=0o700)
    os.chown(order.private, user, user)


def _keep_names(binds: Sequence[Bind]) -> None:
    """A folder that was granted by the name of a link is found by that name."""
    for bind in binds:
        name = Path(bind.target)
        if bind.target != bind.source and not name.exists():
            name.parent.mkdir(parents=True, exist_ok=True)
            name.symlink_to(bind.source)
