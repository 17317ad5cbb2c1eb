"""What left a model's cache and can come back: from memory, or from the disk of another day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from corral.jsontypes import JsonObject
from corral.runtime.models.contract import Adapter
from corral.runtime.models.local.states.disk import DiskTier
from corral.runtime.models.local.states.held import Held, adapters_digest, token_bytes
from corral.runtime.models.local.states.memory import Data, MemoryTier, State
from corral.runtime.models.local.states.prefixes import PrefixIndex

_ADAPTERS = 8
"""Words in front of the tokens in the texts of the indexes: the digest of the adapters."""


_FEWEST = 32
_CHEAPER = 16
"""Reading a token takes less than a sixteenth of evaluating it, and all of a state is read."""


@dataclass(frozen=True)
class StateOptions:
    """Where states are kept, and how much of them, in bytes; 0 is nothing.

    ``identity`` is what made them (see ``held.identity``). ``cuts`` says that a sequence can go
    back to any earlier place, so that a state which shares only its beginning is of use, too.
    """

    identity: bytes
    memory: int
    disk: int = 0
    folder: Path | None = None
    cuts: bool = True


@dataclass(frozen=True)
class Saved:
    """A state that can be loaded: of ``length`` tokens, the first ``shared`` as asked for."""

    length: int
    shared: int
    _load: Callable[[], Future[Data | None]]

    def is_worth_it(self, have: int) -> bool:
        """Whether reading it takes less time than evaluating what it adds to ``have`` tokens."""
        return self.shared - have >= max(_FEWEST, self.length // _CHEAPER)

    def load(self) -> Future[Data | None]:
        """Begin to read it. ``None``: it cannot be had after all."""
        return self._load()


class StateStore:
    """The states of one loaded model. Call it from one thread; files have threads of their own."""

    def __init__(self, options: StateOptions) -> None:
        self._cuts = options.cuts
        self._memory = MemoryTier(options.memory)
        self._disk: DiskTier | None = None
        if options.folder is not None and options.disk > 0:
            self._disk = DiskTier(options.folder, options.identity, options.disk)

    def find(self, tokens: Sequence[int], adapters: Sequence[Adapter] = ()) -> Saved | None:
        """The state that shares the longest beginning with ``tokens``, under the same adapters.

        Leave out of ``tokens`` what is to be evaluated in any case.
        """
        text = adapters_digest(adapters) + token_bytes(tokens)
        here = self._found(self._memory.index, text, self._from_memory)
        disk = self._disk
        if disk is None:
            return here
        with disk.lock:
            disk.refresh()
            there = self._found(disk.index, text, disk.read)
        if here is None or (there is not None and there.shared > here.shared):
            return there
        return here

    def keep(self, held: Held, data: Data) -> None:
        """Take a sequence that leaves the context. What has no room in memory goes to the disk."""
        for state in self._memory.add(State.of(held, data)):
            self._save(state)

    def is_saved(self, held: Held) -> bool:
        """Whether ``save`` would write nothing new, so that the state need not be copied."""
        state = State.of(held, b"")
        return self._disk is None or not held.conversation or self._disk.has(state.name, state.text)

    def save(self, held: Held, data: Data) -> None:
        """Write a sequence, which may stay where it is, for another process to go on with.

        Waits when a lot is still to be written: call it where nobody waits for an answer.
        """
        if self._disk is not None and self._disk.is_behind(len(data)):
            self._disk.flush()
        self._save(State.of(held, data))

    def save_kept(self) -> None:
        """Write what is only in memory and belongs to a conversation."""
        for state in self._memory.all():
            self._save(state)

    def flush(self) -> None:
        """Wait until all that was given to the disk is on it."""
        if self._disk is not None:
            self._disk.flush()

    def close(self) -> None:
        """Write what is only in memory, and stop. Safe to call twice."""
        for state in self._memory.all():
            self._save(state)
            self.flush()
        disk, self._disk = self._disk, None
        if disk is not None:
            disk.close()

    def facts(self) -> JsonObject:
        """How much is kept in memory, and what is wrong with the disk, if something is."""
        problem = self._disk.problem if self._disk is not None else ""
        return {
            "states": len(self._memory),
            "bytes": self._memory.size,
            **({"problem": problem} if problem else {}),
        }

    def _save(self, state: State) -> None:
        disk = self._disk
        if disk is not None and state.conversation and not disk.has(state.name, state.text):
            disk.save(state)

    def _found(
        self, index: PrefixIndex, text: bytes, load: Callable[[str], Future[Data | None]]
    ) -> Saved | None:
        found = index.longest(text) if self._cuts else index.longest_whole(text)
        if found is None or found[1] <= _ADAPTERS:
            return None
        name, shared = found
        length = len(index.text(name)) // 4
        return Saved(length - _ADAPTERS, shared - _ADAPTERS, lambda: load(name))

    def _from_memory(self, name: str) -> Future[Data | None]:
        future: Future[Data | None] = Future()
        future.set_result(self._memory.use(name))
        return future
