"""States on the disk, for all processes of a home folder: written and read on threads of its own.

Nothing here is needed for an answer: whatever goes wrong, a state is not there, and ``problem``
says why.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from corral.runtime.models.local.states import file as files
from corral.runtime.models.local.states.file import BadStateError, Head, NewerStateError
from corral.runtime.models.local.states.key import load_key
from corral.runtime.models.local.states.memory import Data, State
from corral.runtime.models.local.states.names import SUFFIX, model_folder
from corral.runtime.models.local.states.prefixes import PrefixIndex
from corral.runtime.models.local.states.removal import is_gone, state_files

SPARE = 512 * 1024 * 1024
"""Bytes of the disk that are left to others."""

MOST_WAITING = 1024 * 1024 * 1024
"""Bytes that may wait to be written; what comes then is not kept."""

_SAME_TICK_NS = 50_000_000
"""A folder that was changed so shortly ago may change again without another time stamp."""


@dataclass(frozen=True)
class _Known:
    """A file whose head was read; a file that takes its place has another number."""

    number: int
    head: Head


class DiskTier:
    """At most ``budget`` bytes of states below ``root``, those of all models counted.

    ``index`` has the states that the model with this identity can go on with; hold ``lock`` for it.
    """

    def __init__(self, root: Path, identity: bytes, budget: int) -> None:
        self._root = root
        self._identity = identity
        self._budget = budget
        self._folder = root / model_folder(identity)
        self._known: dict[str, _Known] = {}
        self._waiting: dict[str, State] = {}
        self._seen: int | None = None
        self.lock = threading.RLock()
        self.index = PrefixIndex()
        self.problem = ""
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="corral-states-read")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="corral-states-write")
        self._reader.submit(self.refresh)
        self._writer.submit(self._remove_abandoned)

    def refresh(self) -> None:
        """See what other processes have written and removed since the last time."""
        with self.lock:
            try:
                stamp = self._folder.stat().st_mtime_ns
                if stamp != self._seen:
                    self._seen = stamp if time.time_ns() - stamp > _SAME_TICK_NS else None
                    self._list()
            except FileNotFoundError:
                self._seen = None
                self._forget(set(self._known))
            except OSError as error:
                self.problem = f"{self._folder} cannot be read: {error.strerror}"

    def has(self, name: str, text: bytes) -> bool:
        """Whether exactly this is written or waits for it."""
        with self.lock:
            return self.index.text(name) == text

    def is_behind(self, size: int) -> bool:
        """Whether so much waits to be written that ``size`` more bytes would be too many."""
        with self.lock:
            waiting = sum(len(state.data) for state in self._waiting.values())
            return waiting > 0 and waiting + size > MOST_WAITING

    def save(self, state: State) -> None:
        """Write a state soon, in the place of its conversation's last; not where it is behind."""
        with self.lock:
            if self.is_behind(len(state.data)):
                self.problem = "the disk is slower than what is to be written to it"
                return
            self._waiting[state.name] = state
            self.index.add(state.name, state.text)
        self._writer.submit(self._write, state)

    def read(self, name: str) -> Future[Data | None]:
        """The data of a state; ``None`` when it is not there any more, or not whole."""
        return self._reader.submit(self._read, name)

    def flush(self) -> None:
        """Wait until all that waits is written."""
        self._writer.submit(lambda: None).result()

    def close(self) -> None:
        """Write what waits, and stop. Safe to call twice."""
        self._writer.shutdown(wait=True)
        self._reader.shutdown(wait=True)

    def _list(self) -> None:
        with os.scandir(self._folder) as entries:
            found = {e.name: e.inode() for e in entries if e.name.endswith(SUFFIX)}
        self._forget({name for name in self._known if name not in found})
        for name, number in found.items():
            known = self._known.get(name)
            if known is None or known.number != number:
                self._learn(name, number)

    def _learn(self, name: str, number: int) -> None:
        try:
            head = files.read_head(self._folder / name)
        except NewerStateError:
            return
        except BadStateError:
            self._drop(name)
            return
        except OSError:
            return
        if head.identity != self._identity:
            self._drop(name)
            return
        self._known[name] = _Known(number, head)
        if name not in self._waiting:
            self.index.add(name, head.adapters + head.tokens)

    def _forget(self, names: set[str]) -> None:
        for name in names:
            del self._known[name]
            if name not in self._waiting:
                self.index.discard(name)

    def _drop(self, name: str) -> None:
        """Remove what is no state: it is evaluated anew."""
        with suppress(OSError):
            (self._folder / name).unlink(missing_ok=True)
        with self.lock:
            self._known.pop(name, None)
            self.index.discard(name)

    def _read(self, name: str) -> Data | None:
        with self.lock:
            self.refresh()
            waiting, known = self._waiting.get(name), self._known.get(name)
        if waiting is not None:
            return waiting.data
        if known is None:
            return None
        path = self._folder / name
        try:
            data = files.read_data(path, load_key(self._root), known.head)
            os.utime(path)  # what was used last goes last
        except BadStateError:
            self._drop(name)
            return None
        except (OSError, NewerStateError):
            return None
        return data

    def _write(self, state: State) -> None:
        with self.lock:
            if self._waiting.get(state.name) is not state:
                return
        done = False
        try:
            done = self._written(state)
        except OSError as error:
            self.problem = f"a conversation could not be kept in {self._folder}: {error.strerror}"
        with self.lock:
            if self._waiting.get(state.name) is state:
                del self._waiting[state.name]
                if not done:
                    self.index.discard(state.name)

    def _written(self, state: State) -> bool:
        head = Head(self._identity, state.adapters, state.tokens, len(state.data))
        path = self._folder / state.name
        if is_gone(self._root, state.name) or not self._make_room(path, head.total):
            return False
        for folder in (self._root, self._folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not stat.S_ISDIR(folder.lstat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "it is not a folder")
        files.write(path, load_key(self._root), head, state.data)
        if is_gone(self._root, state.name):  # deleted while it was being written
            path.unlink(missing_ok=True)
            return False
        self.problem = ""
        return True

    def _make_room(self, path: Path, size: int) -> bool:
        """Remove what was not used for longest, until ``size`` more bytes are in the budget."""
        if size > self._budget:
            self.problem = f"a conversation of {size:,} bytes is more than may be kept"
            return False
        others = [file for file in state_files(self._root) if file.path != path]
        total = sum(file.size for file in others)
        for file in sorted(others, key=lambda file: file.used):
            if total + size <= self._budget:
                break
            file.path.unlink(missing_ok=True)
            total -= file.size
        if _free(self._root) - size < SPARE:
            self.problem = f"the disk of {self._root} is nearly full"
            return False
        return True

    def _remove_abandoned(self) -> None:
        for draft in _drafts(self._folder):
            if files.is_abandoned(draft):
                draft.unlink(missing_ok=True)


def _free(folder: Path) -> int:
    """Free bytes where a folder is, or will be."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(there).free


def _drafts(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from folder.glob(f"{files.DRAFT_PREFIX}*")
