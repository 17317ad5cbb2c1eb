"""Questions that a terminal waits at: who answers one elsewhere is told that it goes on there.

A lock on a file says so, because it goes with its process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def waiting_at(home: Path, run: str) -> Iterator[None]:
    """While the body runs, this process waits for the answers to a paused run's questions."""
    from corral.agents.hosting.place import make_folder

    file = _file(home, run)
    make_folder(file.parent)
    descriptor = _held(file)
    try:
        yield
    finally:
        _leave(descriptor, file)


def _held(file: Path) -> int:
    from corral.agents.hosting.lock import is_at

    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if is_at(file, descriptor):
            return descriptor
        os.close(descriptor)  # who looked whether anybody waits has just removed it


def is_waited_at(home: Path, run: str) -> bool:
    """Whether a terminal that is alive waits for the answers, and goes on with the run then."""
    file = _file(home, run)
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    return not _leave(descriptor, file)


def _leave(descriptor: int, file: Path) -> bool:
    """Close the file, and remove it if nobody else waits there. Whether nobody does."""
    with os.fdopen(descriptor), suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink(missing_ok=True)
        return True
    return False


def _file(home: Path, run: str) -> Path:
    return home / "run" / f"asks-{run}"
