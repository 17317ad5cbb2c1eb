"""Who is the host at a place: whoever holds its lock; and what those before it have left.

Standard library only: who comes second is not to wait for more.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from corral.agents.hosting.place import Place, make_folder

_MONTH = 30 * 86_400.0


class Lock:
    """The lock of a place; who holds it is the host there. It dies with its process."""

    def __init__(self, place: Place) -> None:
        make_folder(place.folder)
        self._path = place.lock
        self._file = _locked(self._path)

    @property
    def is_mine(self) -> bool:
        """Whether this process is the host there."""
        return self._file is not None

    def release(self) -> None:
        """Let another host take the place."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


def _locked(path: Path) -> int | None:
    """The file, locked; ``None``: somebody else has it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        if is_at(path, file):
            return file
        os.close(file)  # its host has just removed it: it is the lock of nothing


def is_at(path: Path, file: int) -> bool:
    """Whether an open file is the one that is at a path now."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file))
    return False


def tidy(place: Place) -> None:
    """Remove what killed processes have left, and what hosts said a month ago."""
    for lock in place.folder.glob("*.lock"):
        left = Lock(replace(place, name=lock.stem)) if lock != place.lock else None
        if left is not None and left.is_mine:
            lock.with_suffix(".sock").unlink(missing_ok=True)
            left.release()
    for asking in (place.home / "run").glob("asks-*"):  # see ``corral.cli.waiting``
        if (file := _locked(asking)) is not None:
            asking.unlink()
            os.close(file)
    for said in place.log.parent.glob("host-*.log"):
        with suppress(FileNotFoundError):
            if time.time() - said.stat().st_mtime > _MONTH:
                said.unlink()
