"""A process between the guest and one command: adopts what the command leaves, and ends it.

It tells the host over a status socket, in lines of words:

``started``
    the program runs.
``failed WHERE ERRNO``
    it could not be started, because of its ``cwd`` or its ``program``.
``ended CODE CPU PEAK``
    everything of it is gone: the exit status as a shell has it, processor time in seconds, the
    memory of its largest process in bytes.

The host says over the same socket: ``i`` to interrupt the command, ``k`` to end it. The end of the
socket ends it as well.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself takes 5 ms of every start
import os
from resource import RUSAGE_CHILDREN, getrusage
from select import POLLIN, poll

from corral.sandbox.guest import processes

INTERRUPT, KILL = b"i", b"k"
NOT_FOUND, NOT_STARTED = 127, 126
_KIB = 1024


class StartError(Exception):
    """A command cannot be started: the part of the request at fault, and the errno."""

    def __init__(self, where: str, number: int) -> None:
        super().__init__(where, number)
        self.where = where
        self.number = number


def mind(status: int, start) -> None:  # type: ignore[no-untyped-def]  # typing costs 15 ms here
    """Call ``start`` for the pid of a new child and look after it until nothing of it is left.

    For a fork of its own; does not return. ``start`` may raise ``StartError``.
    """
    wake, woken = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    code = NOT_STARTED
    try:
        processes.become_subreaper()
        _signal.signal(_signal.SIGCHLD, only_wake)
        _signal.set_wakeup_fd(woken)
        child = start()
        say(status, "started")
        code = _until_end(child, status, wake)
        processes.end_all_below()
        usage = getrusage(RUSAGE_CHILDREN)
        cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _KIB
        say(status, f"ended {code} {cpu:.6f} {peak}")
    except StartError as error:
        say(status, f"failed {error.where} {error.number}")
    finally:
        os._exit(code)


def only_wake(number: int, frame: object) -> None:
    """A handler that does nothing: the descriptor set for signals wakes the process."""
    del number, frame


def say(status: int, line: str) -> None:
    """One line to the host, which may be gone."""
    try:
        os.write(status, f"{line}\n".encode())
    except OSError:
        return


def _until_end(child: int, status: int, wake: int) -> int:
    """Wait for the child's end, or end it when the host says so; its exit status."""
    poller = poll()
    poller.register(status, POLLIN)
    poller.register(wake, POLLIN)
    while True:
        ready = {fd for fd, _ in poller.poll()}
        if wake in ready:
            os.read(wake, 4096)
            ended = processes.reap()
            if child in ended:
                return ended[child]
        if status in ready:
            order = os.read(status, 1)
            if order == INTERRUPT:
                processes.kill_group(child, _signal.SIGINT)
            else:
                processes.kill_group(child, _signal.SIGKILL)
                processes.kill(child)
                poller.unregister(status)
