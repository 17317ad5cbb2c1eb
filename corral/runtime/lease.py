"""Who is running a thread: a lease in the thread's row, held by a process that is alive.

Two runs on one thread would lose each other's messages. A lease names its holder by host,
process id and the process's start time, so that one whose holder was killed is free at once.
Inside this process a lease is held while ``holding`` lasts, whatever the database says.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, select, update

from corral.errors import ConflictError
from corral.runtime.tables import threads

_held_here: set[str] = set()


@contextmanager
def holding() -> Iterator[str]:
    """A lease for this process, to ``take`` and to ``release``; afterwards it counts as free."""
    lease = json.dumps(
        {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _start_time(os.getpid()),
            "token": secrets.token_hex(8),
        }
    )
    _held_here.add(lease)
    try:
        yield lease
    finally:
        _held_here.discard(lease)


def is_held(lease: str | None) -> bool:
    """Whether the holder of a lease may still be running.

    The holder on another host is taken to be alive: nobody here can tell.
    """
    if lease is None:
        return False
    holder = json.loads(lease)
    if holder["host"] != socket.gethostname():
        return True
    if holder["pid"] == os.getpid():
        return lease in _held_here
    started = _start_time(holder["pid"])
    return started is not None and started == holder["started"]


def take(connection: Connection, thread: str, lease: str) -> None:
    """Take the thread's lease. Raises ``ConflictError`` when somebody alive holds it."""
    held = connection.execute(select(threads.c.lease).where(threads.c.id == thread)).scalar()
    if is_held(held):
        holder = json.loads(str(held))
        raise ConflictError(
            f"The thread {thread} is being run by process {holder['pid']} on {holder['host']}.",
            hint="Wait until it is done, or stop it there with Ctrl-C.",
        )
    connection.execute(update(threads).where(threads.c.id == thread).values(lease=lease))


def release(connection: Connection, thread: str, lease: str) -> None:
    """Give the lease back, if it is still ours."""
    connection.execute(
        update(threads).where(threads.c.id == thread, threads.c.lease == lease).values(lease=None)
    )


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
