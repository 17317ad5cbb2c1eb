"""Start the sandbox's first process, then supervise it until nothing of it is left.

Three processes: the launcher itself, which the parent knows and may kill; the supervisor, out of
its reach in a session of its own, which then still ends everything (bubblewrap alone does not
when it is killed while it starts); and bubblewrap. A launcher that serves (see ``serve``) forks
supervisors without one of the first kind.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # signal itself costs a fork its enums
import os
import sys
from collections.abc import Sequence

from corral.sandbox.launcher import bubblewrap, cgroups, gvisor, landlock, linux, staging
from corral.sandbox.launcher.order import VARIABLE, Order, Program
from corral.sandbox.launcher.supervisor import SIGNALS, Ending, Supervisor, Wanted, end, relay

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
        linux.die_with_parent(signal.SIGUSR1)
        oversee(order, Wanted(launcher), cgroups.find())
    _let_go_of_streams()
    return relay(supervisor, parent)


def say(text: str) -> None:
    """One line on standard error, marked as the launcher's."""
    os.write(2, f"corral-sandbox: {text}\n".encode(errors="replace"))


def oversee(order: Order, wanted: Wanted, groups: str | None) -> None:
    """Start the command of the order and watch over it, see ``Supervisor``. Never returns.

    ``groups`` is the folder in which a group of the kernel's can be made for it, if there is one.
    """
    ending, supervisor = Ending(_NOT_STARTED), None
    group = cgroups.make(groups)
    try:
        os.setsid()
        linux.become_subreaper()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        if group is not None:
            group.limit(order.memory, order.processes)
        child = os.fork()
        if child == 0:
            _child(order, group)
        _let_go_of_streams()
        supervisor = Supervisor(order, child, wanted, group)
        ending = supervisor.run()
    except OSError as error:
        say(f"the supervisor failed: {error}")
    finally:
        end(group)
        _remove(order.scratch)
        if supervisor is not None:
            supervisor.tell_end(ending)
        os._exit(ending.code)


def _remove(folders: Sequence[str]) -> None:
    """Remove folders, however deep they are and whatever the modes of what is in them."""
    for folder in folders:
        if _run("rm", "-rf", folder) != 0:
            _run("chmod", "-R", "u+rwX", folder)
            _run("rm", "-rf", folder)


def _run(*command: str) -> int:
    silent = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawnp(command[0], command, {"PATH": os.defpath}, file_actions=silent)
    return os.waitpid(pid, 0)[1]


def _let_go_of_streams() -> None:
    """Only the command reads standard input and writes standard output."""
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.dup2(quiet, 1)
    os.close(quiet)


def _child(order: Order, group: cgroups.Group | None) -> None:
    """Become the command of the order. Never returns."""
    launcher = os.getppid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        if group is not None:
            group.enter()
        program = _program(order)
        _end_with(launcher)
        _execute(program)
    except (OSError, staging.StagingError) as error:
        say(f"cannot start: {error}")
    finally:
        os._exit(_NOT_STARTED)


def _end_with(launcher: int) -> None:
    linux.die_with_parent(signal.SIGKILL)
    if os.getppid() != launcher:
        os._exit(_NOT_STARTED)


def _execute(what: Program) -> None:
    if what.workdir:
        os.chdir(what.workdir)
    argv, environment = list(what.argv), dict(what.environment)
    if isinstance(what.program, str) and "/" not in what.program:
        os.execvpe(what.program, argv, environment)  # noqa: S606 -- no shell
    os.execve(what.program, argv, environment)  # noqa: S606 -- no shell


def _program(order: Order) -> Program:
    """What this process is to become, with everything done that comes before."""
    if order.bwrap:
        return bubblewrap.command(order, SANDBOX_USER)
    if order.runsc:
        return gvisor.command(order, SANDBOX_USER)
    if order.landlock:
        return landlock.command(order, SANDBOX_USER)
    return Program(order.argv[0], order.argv, order.environment, order.workdir or "/")


if __name__ == "__main__":
    sys.exit(main())
