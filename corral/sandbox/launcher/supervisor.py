"""Watch a process tree from outside: its limits, its end, the end of whoever wants it."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # signal itself costs a fork its enums
import contextlib
import json
import os
import select
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from corral.sandbox.launcher import tree
from corral.sandbox.launcher.cgroups import Group
from corral.sandbox.launcher.disk import Growth
from corral.sandbox.launcher.order import Order

if TYPE_CHECKING:
    from _socket import socket

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
_SHORTEST, _LONGEST = 0.004, 0.2  # seconds between two looks
_FASTEST = 4 * 1024**3  # bytes that a tree can take in one second, with room to spare
_SPACE_PAUSE = 0.1
_RELAY = 1.0  # seconds; the kernel tells of the parent's death at once
_REAP_DEADLINE = 10.0
_ROUNDS = 100
_KILLED = 128 + signal.SIGKILL
_MIB = 1024 * 1024


class Ending(NamedTuple):
    """How a tree ended: exit status as a shell has it, why, and what it used.

    ``reason`` is ``exited``, ``killed`` or the name of the limit. Memory in bytes, times in
    seconds.
    """

    code: int
    reason: str = "exited"
    detail: str = ""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0


class _Over(Exception):
    """The tree has to end now."""

    def __init__(self, code: int, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.ending = Ending(code, reason, detail)


class Wanted(NamedTuple):
    """By whom a tree is wanted.

    ``lifeline`` is the socket of whoever asked for it: it takes orders (``kill``, ``freeze``,
    ``thaw``, ``spare PID``, one a line), is told what happens in lines of JSON, and its end ends
    the tree. Without one, the death of ``parent`` does.
    """

    parent: int
    lifeline: socket | None = None


class Supervisor:
    """Watches ``child`` and all below it until they are gone; ``group`` holds them, if any does."""

    def __init__(
        self, order: Order, child: int, wanted: Wanted, group: Group | None = None
    ) -> None:
        self._order = order
        self._child = child
        self._parent, self._lifeline = wanted
        self._group = group
        self._killed_for_memory = 0
        self._began = time.monotonic()
        self._peak = 0
        self._cpu_seconds = 0.0
        self._status: int | None = None
        self._spared = 0
        self._frozen = False
        self._orders = b""
        self._growth = Growth(order.writable, order.written) if order.written else None
        self._next_space = 0.0
        self._poller = select.poll()
        self._wake = _wake_at_signals()
        self._poller.register(self._wake, select.POLLIN)
        if self._lifeline is not None:
            self._poller.register(self._lifeline, select.POLLIN)

    def run(self) -> Ending:
        """Watch to the end; something may be left of the tree then, see ``end``."""
        pause = _SHORTEST
        try:
            self._tell(pid=self._child)
            while True:
                for ready, _ in self._poller.poll(pause * 1000):
                    self._attend(ready)
                self._check_parent()
                pause = self._look()
        except _Over as over:
            ending = over.ending
        wall = time.monotonic() - self._began
        return ending._replace(
            wall_seconds=wall, cpu_seconds=self._cpu_seconds, peak_memory=self._peak
        )

    def tell_end(self, ending: Ending) -> None:
        """The last event: nothing is left."""
        with contextlib.suppress(_Over):
            self._tell(ended=ending._asdict())

    def _tell(self, **event: Any) -> None:
        if self._lifeline is None:
            return
        try:
            self._lifeline.sendall(json.dumps(event).encode() + b"\n")
        except OSError as error:
            raise _Over(_KILLED, "killed", "nobody waits for it any more") from error

    def _attend(self, ready: int) -> None:
        if ready == self._wake:
            received = os.read(self._wake, 4096)
            stop = [number for number in received if number in _STOP]
            status = _reap(self._child)
            if status is not None:
                raise _Over(status, "exited")
            if stop:
                raise _Over(128 + stop[0], "killed", "it was told to stop")
        elif self._lifeline is not None:
            data = self._lifeline.recv(4096)
            if not data:
                raise _Over(_KILLED, "killed", "nobody waits for it any more")
            *lines, self._orders = (self._orders + data).split(b"\n")
            for line in lines:
                self._obey(line.decode().split())

    def _obey(self, order: list[str]) -> None:
        match order:
            case ["kill"]:
                raise _Over(_KILLED, "killed", "it was told to stop")
            case ["freeze"]:
                tree.freeze(os.getpid())
                self._frozen = True
                self._tell(frozen=True)
            case ["thaw"]:
                self._frozen = False
                tree.thaw(os.getpid())
                self._tell(frozen=False)
            case ["spare", pid]:
                self._spared = int(pid)

    def _check_parent(self) -> None:
        if self._lifeline is None and os.getppid() != self._parent:
            raise _Over(_KILLED, "killed", "its parent has ended")

    def _look(self) -> float:
        """Hold the tree to its limits; seconds until it could break one."""
        if self._frozen:
            return _LONGEST
        self._check_time()
        self._check_space()
        limit = self._order.memory
        self._check_group()
        usage = tree.measure(self._child, limit)
        self._cpu_seconds = usage.cpu_seconds
        if usage.memory > limit:
            usage = self._relieve(usage)
        self._peak = max(self._peak, usage.memory)
        if usage.cpu_seconds > self._order.cpu_seconds:
            self._stop(
                "cpu",
                f"its processes used {usage.cpu_seconds:.0f} s of processor time, "
                f"more than the limit of {self._order.cpu_seconds} s",
            )
        return min(max((limit - usage.memory) / _FASTEST, _SHORTEST), _LONGEST)

    def _check_time(self) -> None:
        limit = self._order.wall_seconds
        if limit and time.monotonic() - self._began > limit:
            self._stop("timeout", f"it ran longer than the limit of {limit:g} s")

    def _check_group(self) -> None:
        """Say so when the kernel has ended a process that wanted too much memory."""
        killed = self._group.out_of_memory() if self._group is not None else 0
        if killed > self._killed_for_memory:
            self._killed_for_memory = killed
            limit = self._order.memory // _MIB
            self._tell(breach="memory", detail=f"its processes wanted more than {limit} MiB")

    def _check_space(self) -> None:
        now = time.monotonic()
        if self._growth is None or now < self._next_space:
            return
        self._next_space = now + _SPACE_PAUSE
        if not self._growth.suspicious():
            return
        tree.freeze(os.getpid())
        grown = self._growth.look(tree.descendants(os.getpid()))
        if grown > self._order.written:
            self._stop(
                "written",
                f"its folders grew by {grown // _MIB} MiB, more than the limit "
                f"of {self._order.written // _MIB} MiB",
            )
        tree.thaw(os.getpid())

    def _relieve(self, usage: tree.Usage) -> tree.Usage:
        """Too much memory: end what runs below the spared process, or else everything."""
        self._peak = max(self._peak, usage.memory)
        limit = self._order.memory
        detail = (
            f"its processes held {usage.memory // _MIB} MiB of memory, "
            f"more than the limit of {limit // _MIB} MiB"
        )
        below = tree.descendants(os.getpid())
        if self._spared not in below:
            self._stop("memory", detail)
        for _ in range(_ROUNDS):
            found = tree.descendants(self._spared)
            for pid in found:
                tree.send(pid, signal.SIGKILL)
            if not found:
                break
            time.sleep(0.002)
        self._tell(breach="memory", detail=detail)
        after = tree.measure(self._child, limit)
        if after.memory > limit:
            self._stop("memory", detail)
        return after

    def _stop(self, reason: str, detail: str) -> None:
        end(self._group)
        os.write(2, f"corral-sandbox: stopped: {detail}\n".encode())
        raise _Over(_KILLED, reason, detail)


def _wake_at_signals() -> int:
    """A descriptor from which the numbers of signals can be read as they come."""
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return wake


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


def end(group: Group | None) -> None:
    """Kill everything below this process and wait until it is gone.

    Whatever loses its parent comes to this process, the subreaper; the end of a sandbox's first
    process ends all in its process namespace.
    """
    deadline = time.monotonic() + _REAP_DEADLINE
    while time.monotonic() < deadline:
        below = tree.descendants(os.getpid())
        if group is not None:
            group.kill()
        for pid in below:
            tree.send(pid, signal.SIGKILL)
        _reap(0)
        if not below:
            break
        time.sleep(0.001)
    if group is not None:
        group.remove()
