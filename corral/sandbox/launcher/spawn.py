"""Start the sandbox's first process, then supervise it until nothing of it is left.

Three processes: the launcher itself, which the parent knows and may kill; the supervisor, out of
its reach in a session of its own, which then still ends everything (bubblewrap alone does not
when it is killed while it starts); and bubblewrap.
"""

from __future__ import annotations

import base64
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from corral.sandbox.launcher import linux, staging
from corral.sandbox.launcher.order import VARIABLE, Bind, Order
from corral.sandbox.launcher.supervisor import SIGNALS, relay, supervise

SANDBOX_USER = 65533
"""The user that a sandbox started by root runs as on the host: no account, no files."""

_NOT_STARTED = 125


def main() -> int:
    """Carry out the order in the environment; the command's exit status, or 125."""
    try:
        order = Order.from_text(os.environ.pop(VARIABLE))
    except (KeyError, ValueError, TypeError) as error:
        say(f"no usable order in {VARIABLE} ({error}); this program is started by Corral")
        return _NOT_STARTED
    # Whatever the parent has left open is not for the sandbox.
    os.closerange(3, 1 << 20)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    parent = os.getppid()
    linux.die_with_parent(signal.SIGUSR1)
    launcher = os.getpid()
    supervisor = os.fork()
    if supervisor == 0:
        _supervisor(order, launcher)
    _let_go_of_streams()
    return relay(supervisor, parent)


def say(text: str) -> None:
    """One line on standard error, marked as the launcher's."""
    os.write(2, f"corral-sandbox: {text}\n".encode(errors="replace"))


def _supervisor(order: Order, launcher: int) -> None:
    """Start the command and watch over it. Never returns."""
    status = _NOT_STARTED
    try:
        os.setsid()
        linux.die_with_parent(signal.SIGUSR1)
        linux.become_subreaper()
        child = os.fork()
        if child == 0:
            _child(order)
        _let_go_of_streams()
        status = supervise(child, launcher, order.memory, order.cpu_seconds)
    except OSError as error:
        say(f"the supervisor failed: {error}")
    finally:
        os._exit(status)


def _let_go_of_streams() -> None:
    """Only the command reads standard input and writes standard output."""
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.dup2(quiet, 1)
    os.close(quiet)


def _child(order: Order) -> None:
    """Become the command of the order. Never returns."""
    launcher = os.getppid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        if order.bwrap:
            _become_bwrap(order, launcher)
        else:
            _become_command(order, launcher)
    except (OSError, staging.StagingError) as error:
        say(f"cannot start: {error}")
    finally:
        os._exit(_NOT_STARTED)


def _end_with(launcher: int) -> None:
    linux.die_with_parent(signal.SIGKILL)
    if os.getppid() != launcher:
        os._exit(_NOT_STARTED)


def _become_bwrap(order: Order, launcher: int) -> None:
    program, binds = order.bwrap, order.binds
    if os.geteuid() == 0:
        program, binds = _stage(order)
        staging.drop(SANDBOX_USER)
    _end_with(launcher)
    linux.no_new_privileges()
    arguments = [*order.options]
    for path, text in order.files.items():
        arguments += ["--file", str(_sealed(text.encode())), path]
    for bind in binds:
        arguments += ["--bind" if bind.writable else "--ro-bind", bind.source, bind.target]
    arguments += ["--seccomp", str(_sealed(base64.b64decode(order.seccomp))), *order.closing]
    listing = b"".join(os.fsencode(argument) + b"\0" for argument in arguments)
    command = ["bwrap", "--args", str(_sealed(listing)), "--", *order.argv]
    # The environment is empty: bubblewrap's own stays readable inside as /proc/1/environ.
    os.execve(program, command, {})  # noqa: S606 -- an argument list, no shell


def _stage(order: Order) -> tuple[str, Sequence[Bind]]:
    """Make everything reachable for the sandbox's user; bubblewrap's path and the new binds."""
    stage = staging.Stage(SANDBOX_USER)
    program = order.bwrap
    if order.bwrap_folder:
        inner = Path(order.bwrap).relative_to(order.bwrap_folder)
        program = str(Path(stage.add(order.bwrap_folder, writable=False)) / inner)
    binds = [
        Bind(stage.add(bind.source, writable=bind.writable), bind.target, bind.writable)
        if bind.private
        else bind
        for bind in order.binds
    ]
    stage.attach()
    return program, binds


def _become_command(order: Order, launcher: int) -> None:
    _end_with(launcher)
    os.chdir(order.workdir or "/")
    os.execvpe(order.argv[0], list(order.argv), order.environment)  # noqa: S606 -- no shell


def _sealed(data: bytes) -> int:
    """Bytes as an inheritable file descriptor, to be read from the start."""
    fd = os.memfd_create("corral", 0)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    os.set_inheritable(fd, True)
    return fd


if __name__ == "__main__":
    sys.exit(main())
