"""Watch a process tree from outside: its memory, its processor time, its end, the parent's end."""

from __future__ import annotations

import os
import signal
import time

from corral.sandbox.launcher import tree

SIGNALS = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGCHLD,
        signal.SIGUSR1,  # the parent has died, says the kernel
    }
)
_STOP = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
_BUSY, _IDLE = 0.03, 0.1  # seconds between two looks
_RELAY = 1.0  # seconds; the kernel tells of the parent's death at once
_REAP_DEADLINE = 10.0
_KILLED = 128 + signal.SIGKILL
_MIB = 1024 * 1024


def supervise(child: int, parent: int, memory: int, cpu_seconds: int) -> int:
    """Watch ``child`` and all below it until they are gone.

    Ends the tree when it holds more than ``memory`` bytes or has used more than ``cpu_seconds``,
    when ``parent`` is no longer the parent, or at SIGTERM. Returns an exit status as a shell has
    it: 128 plus the number for a signal.
    """
    pause, used_before = _BUSY, 0.0
    while True:
        received = signal.sigtimedwait(SIGNALS, pause)
        status = _reap(child)
        if status is not None:
            end(child)
            return status
        if received is not None and received.si_signo in _STOP:
            end(child)
            return 128 + received.si_signo
        if os.getppid() != parent:
            end(child)
            return _KILLED
        usage = tree.measure(child, memory)
        breach = _breach(usage, memory, cpu_seconds)
        if breach:
            end(child)
            os.write(2, f"corral-sandbox: stopped: {breach}\n".encode())
            return _KILLED
        working = usage.cpu_seconds != used_before or usage.memory > memory // 4
        pause, used_before = (_BUSY if working else _IDLE), usage.cpu_seconds


def relay(supervisor: int, parent: int) -> int:
    """Stand between the parent and the supervisor until that has ended; its exit status.

    Passes signals on, and the parent's death.
    """
    while True:
        received = signal.sigtimedwait(SIGNALS, _RELAY)
        status = _reap(supervisor)
        if status is not None:
            return status
        if received is not None and received.si_signo in _STOP:
            os.kill(supervisor, received.si_signo)
        elif os.getppid() != parent:
            os.kill(supervisor, signal.SIGTERM)


def _breach(usage: tree.Usage, memory: int, cpu_seconds: int) -> str:
    if usage.memory > memory:
        return (
            f"its processes held {usage.memory // _MIB} MiB of memory, "
            f"more than the limit of {memory // _MIB} MiB"
        )
    if usage.cpu_seconds > cpu_seconds:
        return (
            f"its processes used {usage.cpu_seconds:.0f} s of processor time, "
            f"more than the limit of {cpu_seconds} s"
        )
    return ""


def _reap(child: int) -> int | None:
    """Collect whatever has ended; the exit status of ``child`` if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def end(child: int) -> None:
    """Kill everything below this process and wait until it is gone.

    Whatever loses its parent comes to this process, the subreaper; the end of a sandbox's first
    process ends all in its process namespace.
    """
    deadline = time.monotonic() + _REAP_DEADLINE
    while time.monotonic() < deadline:
        below = tree.descendants(os.getpid())
        for pid in below:
            _kill(pid)
        _reap(child)
        if not below:
            return
        signal.sigtimedwait({signal.SIGCHLD}, 0.005)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
