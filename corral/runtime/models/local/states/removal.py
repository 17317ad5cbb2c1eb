"""Saved states as what they are for everybody else: files of threads, to be counted and removed.

Cheap to import. A thread that was deleted leaves a mark behind, by its digest: another process may
still hold its state, and must not bring it back.
"""

from __future__ import annotations

import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from os import DirEntry, scandir
from pathlib import Path

from corral.runtime.models.local.states.file import DRAFT_PREFIX, is_abandoned
from corral.runtime.models.local.states.names import SUFFIX, thread_digest, thread_of

GONE = "gone"
"""The folder of the marks."""


@dataclass(frozen=True)
class StateFile:
    """A file as it is listed; ``used`` is when it was last of use, in nanoseconds."""

    path: Path
    size: int
    used: int


@dataclass(frozen=True)
class Taken:
    """How many states there are, and the bytes of their files."""

    states: int = 0
    size: int = 0


def states_folder(home: Path) -> Path:
    """Where a home folder keeps states."""
    return home / "models" / "states"


def state_files(folder: Path) -> Iterator[StateFile]:
    """All states, of all models."""
    for models in _entries(folder):
        if models.is_dir(follow_symlinks=False):
            yield from _states_in(Path(models.path))


def taken(folder: Path) -> Taken:
    """How much room the states take."""
    sizes = [file.size for file in state_files(folder)]
    return Taken(len(sizes), sum(sizes))


def remove_threads(folder: Path, threads: Iterable[str]) -> Taken:
    """Remove the states of these threads for good. Raises ``OSError`` when one cannot go."""
    digests = {thread_digest(thread) for thread in threads}
    if not folder.is_dir():
        return Taken()
    marks = folder / GONE
    marks.mkdir(mode=0o700, exist_ok=True)
    for digest in digests:
        (marks / digest).touch(mode=0o600)
    for draft in folder.glob(f"*/{DRAFT_PREFIX}*"):
        if is_abandoned(draft):
            draft.unlink(missing_ok=True)
    return _remove(file for file in state_files(folder) if thread_of(file.path.name) in digests)


def strangers(folder: Path, threads: Collection[str]) -> list[StateFile]:
    """The states of all but these threads."""
    known = {thread_digest(thread) for thread in threads}
    return [file for file in state_files(folder) if thread_of(file.path.name) not in known]


def keep_threads(folder: Path, threads: Collection[str]) -> Taken:
    """Remove the states of all but these threads, which are all that there are."""
    return _remove(strangers(folder, threads))


def is_gone(folder: Path, name: str) -> bool:
    """Whether the thread of a file with this name has been deleted."""
    return (folder / GONE / thread_of(name)).exists()


def _remove(files: Iterable[StateFile]) -> Taken:
    count = size = 0
    for file in files:
        file.path.unlink(missing_ok=True)
        count, size = count + 1, size + file.size
    return Taken(count, size)


def _states_in(folder: Path) -> Iterator[StateFile]:
    for entry in _entries(folder):
        if entry.name.endswith(SUFFIX):
            with suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    yield StateFile(Path(entry.path), found.st_size, found.st_mtime_ns)


def _entries(folder: Path) -> list[DirEntry[str]]:
    try:
        with scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
