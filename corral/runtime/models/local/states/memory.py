"""States in memory: the least recently used ones leave when there are too many."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256

from corral.runtime.models.local.states.held import Held, adapters_digest, token_bytes
from corral.runtime.models.local.states.names import file_name
from corral.runtime.models.local.states.prefixes import PrefixIndex

Data = bytes | bytearray
"""What llama.cpp gave for a sequence."""


@dataclass(frozen=True)
class State:
    """A sequence that left the context. ``tokens`` are ``token_bytes``."""

    conversation: str
    adapters: bytes
    tokens: bytes
    data: Data = field(repr=False)

    @classmethod
    def of(cls, held: Held, data: Data) -> State:
        """The state of what was held."""
        digest = adapters_digest(held.adapters)
        return cls(held.conversation, digest, token_bytes(held.tokens), data)

    @property
    def name(self) -> str:
        """A conversation has one state; what belongs to none is named by what it is."""
        if self.conversation:
            return file_name(self.conversation, self.adapters)
        return sha256(self.text).hexdigest()

    @property
    def text(self) -> bytes:
        """What it is looked up by: under other adapters the same tokens are another text."""
        return self.adapters + self.tokens


class MemoryTier:
    """At most ``budget`` bytes of states. ``index`` has them by name."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._states: OrderedDict[str, State] = OrderedDict()
        self.index = PrefixIndex()
        self.size = 0

    def __len__(self) -> int:
        return len(self._states)

    def add(self, state: State) -> list[State]:
        """Keep a state, in the place of its conversation's last; the states that had to leave."""
        if state.name in self._states:
            self._remove(state.name)
        self._states[state.name] = state
        self.index.add(state.name, state.text)
        self.size += len(state.data)
        left: list[State] = []
        while self.size > self._budget:
            left.append(self._remove(next(iter(self._states))))
        return left

    def use(self, name: str) -> Data | None:
        """The data of a state that is here still; it is now the most recently used."""
        state = self._states.get(name)
        if state is None:
            return None
        self._states.move_to_end(name)
        return state.data

    def all(self) -> list[State]:
        """All states, the least recently used first."""
        return list(self._states.values())

    def _remove(self, name: str) -> State:
        state = self._states.pop(name)
        self.index.discard(name)
        self.size -= len(state.data)
        return state
