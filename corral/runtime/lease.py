"""Who is running a thread: a lease in the thread's row, held by a process that is alive.

Two runs on one thread would lose each other's messages. A lease names its holder: one on this
machine that was killed is free at once. Of a holder that cannot be seen from here (another
machine, another container) only its sign of life is known, which it renews while it runs; after
``SILENCE`` seconds without one the lease may be taken. Should that holder have been only asleep,
it finds that out before it can do harm: ``fence`` refuses what it still wants to store.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from corral.errors import ConflictError, StorageError
from corral.runtime.clock import now
from corral.runtime.statements import Query, Statement
from corral.runtime.tables import threads
from corral.storage import Storage

RENEW = 5.0
"""Seconds between two signs of life."""

SILENCE = 60.0
"""Seconds after which a holder that cannot be seen counts as gone; clocks may differ by less."""

_held_here: set[str] = set()


@dataclass(frozen=True)
class Hold:
    """A thread and the lease under which this process runs it."""

    thread: str
    lease: str


current_hold: ContextVar[Hold | None] = ContextVar("corral_hold", default=None)
"""What the code that runs here writes under; ``None`` where nothing is being run."""


@contextmanager
def holding() -> Iterator[str]:
    """A lease for this process, to ``take`` and to ``release``; afterwards it counts as free."""
    lease = secrets.token_hex(8)
    _held_here.add(lease)
    try:
        yield lease
    finally:
        _held_here.discard(lease)


@dataclass(frozen=True)
class _Holder:
    """A lease as it is stored. ``machine`` is where its ``pid`` means something."""

    token: str
    host: str
    machine: str
    pid: int
    started: str
    renewed: str

    @classmethod
    def me(cls, lease: str) -> _Holder:
        """This process, alive now."""
        pid = os.getpid()
        return cls(lease, socket.gethostname(), _machine(), pid, str(_start_time(pid)), now())

    @classmethod
    def read(cls, stored: str | None) -> _Holder | None:
        """The holder that is stored; ``None`` for none, and for what no Corral has written."""
        try:
            found: Any = json.loads(stored or "null")
            holder = cls(**found) if found else None
            if holder is not None:
                datetime.fromisoformat(holder.renewed)
        except (TypeError, ValueError):
            return None
        return holder

    @property
    def is_near(self) -> bool:
        """Whether it can be seen from here whether the process lives."""
        return self.machine == _machine()

    @property
    def patience(self) -> float:
        """Seconds until its silence counts as its end; at most ``SILENCE``, whatever its clock."""
        silent = datetime.now(UTC) - datetime.fromisoformat(self.renewed)
        return min(SILENCE, SILENCE - silent.total_seconds())

    def is_alive(self) -> bool:
        """Whether it may still be running."""
        if not self.is_near:
            return self.patience > 0
        if self.pid == os.getpid():
            return self.token in _held_here
        return _start_time(self.pid) == self.started

    def stored(self) -> str:
        return json.dumps(asdict(self))


def is_held(stored: str | None) -> bool:
    """Whether the holder of a thread's lease may still be running."""
    holder = _Holder.read(stored)
    return holder is not None and holder.is_alive()


def take(connection: Connection, thread: str, lease: str) -> None:
    """Take the thread's lease. Raises ``ConflictError`` when somebody alive holds it."""
    stored = _stored(connection, thread)
    holder = _Holder.read(stored)
    if holder is not None and holder.is_alive():
        raise _is_run_by(thread, holder)
    mine = {"thread": thread, "stored": stored, "lease": _Holder.me(lease).stored()}
    taken = _TAKE.run(connection, mine)
    if taken.rowcount != 1:
        raise ConflictError(
            f"Another process has just begun to run the thread {thread}.",
            hint="Wait until it is done.",
        )


def _is_run_by(thread: str, holder: _Holder) -> ConflictError:
    hint = "Wait until it is done, or stop it there with Ctrl-C."
    if not holder.is_near:
        seconds = int(holder.patience) + 1
        hint += f" If it is gone, the thread is free in {seconds} s: try again then."
    return ConflictError(
        f"The thread {thread} is being run by process {holder.pid} on {holder.host}.", hint=hint
    )


def release(connection: Connection, thread: str, lease: str) -> None:
    """Give the lease back, if it is still ours."""
    _RELEASE.run(connection, {"thread": thread, "mine": lease, "lease": None})


def thread_under(connection: Connection, lease: str) -> str | None:
    """The thread that is held with this lease."""
    found = connection.execute(select(threads.c.id).where(threads.c.lease.contains(lease)))
    return found.scalar()


def require(connection: Connection, hold: Hold) -> None:
    """Raise ``ConflictError`` when another process has taken the thread in the meantime."""
    stored = _stored(connection, hold.thread)
    if stored is None or hold.lease not in stored:
        holder = _Holder.read(stored)
        by = f"process {holder.pid} on {holder.host}" if holder else "another process"
        raise ConflictError(
            f"The thread {hold.thread} was taken over by {by}: this one was not heard of for "
            f"{SILENCE:g} s.",
            hint="The run goes on there. `corral runs` shows how it stands.",
        )


def _stored(connection: Connection, thread: str) -> str | None:
    row = _LEASE.first(connection, {"thread": thread})
    return row.lease if row else None


_MINE = threads.c.id == bindparam("thread")
_LEASE = Query(select(threads.c.lease).where(_MINE))
_TAKE = Statement(
    update(threads).where(_MINE, threads.c.lease.is_not_distinct_from(bindparam("stored"))),
    ("lease",),
)
_RELEASE = Statement(
    update(threads).where(_MINE, threads.c.lease.contains(bindparam("mine"))), ("lease",)
)


def fence() -> Callable[[Connection], None]:
    """``require`` for whoever runs here, to be called in the transaction that must be refused."""
    hold = current_hold.get()
    return (lambda _connection: None) if hold is None else lambda c: require(c, hold)


async def keep(storage: Storage, hold: Hold) -> None:
    """Give signs of life. Returns only when another process has taken the thread."""
    while True:
        await asyncio.sleep(RENEW)
        # A full disk is no reason to stop: the fence decides what may still be stored.
        with suppress(StorageError):
            if not await storage.write(lambda c: _renew(c, hold), durable=False):
                return


def _renew(connection: Connection, hold: Hold) -> bool:
    text = _Holder.me(hold.lease).stored()
    return connection.execute(_under(hold).values(lease=text)).rowcount == 1


def _under(hold: Hold) -> Any:
    return update(threads).where(threads.c.id == hold.thread, threads.c.lease.contains(hold.lease))


@cache
def _machine() -> str:
    """Where process ids mean the same: this boot of this kernel, and this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115  not a file's path
    except OSError:
        return socket.gethostname()


def _start_time(pid: int) -> str | None:
    """When a process started, in the kernel's ticks, or ``None`` when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _signalable(pid)
    fields = stat.rpartition(")")[2].split()
    is_zombie = fields[0] == "Z"
    return None if is_zombie else fields[19]


def _signalable(pid: int) -> str | None:
    if Path("/proc/self").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"
