"""The sequences that a context holds, and what a new prompt can have of them.

Cells of the context are shared: a prompt that begins like one that was evaluated gets its keys and
values without a copy, whether the other is still being continued or not.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from corral.runtime.models.contract import Adapter
from corral.runtime.models.local.native.context import Context

Tokens: TypeAlias = "array[int]"
"""Tokens as C has them (``array("i")``), which compare fast."""


@dataclass(eq=False)
class CachedSequence:
    """One sequence of the context. ``tokens`` are those that it holds, evaluated.

    ``busy`` while an answer is made in it; the smallest ``used`` was used longest ago.
    """

    number: int
    adapters: tuple[Adapter, ...]
    conversation: str = ""
    tokens: Tokens = field(default_factory=lambda: array("i"))
    busy: bool = False
    used: int = 0


def common(first: Tokens, second: Tokens) -> int:
    """How many tokens two sequences begin with alike."""
    length = min(len(first), len(second))
    if length == 0 or first[0] != second[0]:
        return 0
    differ = np.frombuffer(first, np.intc, length) != np.frombuffer(second, np.intc, length)
    at = int(differ.argmax())
    return at if differ[at] else length


class PrefixCache:
    """All sequences of one context; ``spill`` is told of each that has to go, before it does.

    A ``recurrent`` model has one state for all that it has read: such a sequence can be gone on
    with, also by several, but not from an earlier place.
    """

    def __init__(
        self, context: Context, *, recurrent: bool, spill: Callable[[CachedSequence], None]
    ) -> None:
        self._context = context
        self._spill = spill
        self._free = list(range(context.n_sequences))
        self._clock = 0
        self.recurrent = recurrent
        self.sequences: list[CachedSequence] = []

    def usable(self, sequence: CachedSequence, goal: Tokens) -> int:
        """How many tokens of ``goal`` a sequence can give."""
        length = common(sequence.tokens, goal)
        if self.recurrent:
            return 0 if length < len(sequence.tokens) else length
        return length if length and self._context.can_go_on(sequence.number, length) else 0

    def best(
        self, goal: Tokens, adapters: tuple[Adapter, ...]
    ) -> tuple[CachedSequence | None, int]:
        """The sequence that can give most of ``goal``, and how much."""
        found: CachedSequence | None = None
        most = 0
        for sequence in self.sequences:
            if sequence.adapters == adapters and len(sequence.tokens) > most:
                length = self.usable(sequence, goal)
                if length > most:
                    found, most = sequence, length
        return found, most

    def new(self, spare: CachedSequence | None = None) -> int:
        """The number of an empty sequence, made by evicting one where there is none left."""
        if not self._free:
            self.evict(spare)
        return self._free.pop()

    def give_back(self, number: int) -> None:
        """A number of ``new`` that was not needed."""
        self._context.drop(number)
        self._free.append(number)

    def add(
        self, number: int, adapters: tuple[Adapter, ...], tokens: Sequence[int]
    ) -> CachedSequence:
        """Know of a sequence of which the context holds these tokens."""
        sequence = CachedSequence(number, adapters, tokens=array("i", tokens))
        self.sequences.append(sequence)
        self.touch(sequence)
        return sequence

    def branch(self, source: CachedSequence, length: int) -> CachedSequence:
        """A new sequence that shares another's first ``length`` tokens."""
        number = self.new(spare=source)
        whole = length == len(source.tokens)
        self._context.share(source.number, number, -1 if whole else length)
        if 2 * length >= len(source.tokens):  # less is what all have, and says nothing of this one
            self.touch(source)
        return self.add(number, source.adapters, source.tokens[:length])

    def cut(self, sequence: CachedSequence, length: int) -> None:
        """Keep the first ``length`` tokens of a sequence, which is ``usable`` so far."""
        if length < len(sequence.tokens):
            self._context.cut(sequence.number, length)
            del sequence.tokens[length:]

    def touch(self, sequence: CachedSequence) -> None:
        """It has just been used."""
        self._clock += 1
        sequence.used = self._clock

    def remove(self, sequence: CachedSequence) -> None:
        """Forget a sequence; what it shares stays with the others."""
        self.sequences.remove(sequence)
        self.give_back(sequence.number)

    def evict(self, spare: CachedSequence | None = None) -> bool:
        """Let the idle sequence go that was used longest ago; ``False``: there is none."""
        idle = [s for s in self.sequences if not s.busy and s is not spare]
        if not idle:
            return False
        oldest = min(idle, key=lambda s: s.used)
        self._spill(oldest)
        self.remove(oldest)
        return True
