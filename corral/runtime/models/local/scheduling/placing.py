"""Finds the sequence in which a run goes on, with as much of its tokens as there is already."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from corral.runtime.models.local.native.context import Context
from corral.runtime.models.local.scheduling.cache import CachedSequence, PrefixCache, common
from corral.runtime.models.local.scheduling.run import Run
from corral.runtime.models.local.states.held import Held
from corral.runtime.models.local.states.store import Saved, StateStore

_WORTH_IT = 32
"""Tokens that must be saved by waiting for another's prefix, or by reading a state."""


class Placing:
    """Settles runs in the cache of one context, and saves what leaves it."""

    def __init__(self, context: Context, states: StateStore | None, *, recurrent: bool) -> None:
        self._context = context
        self._states = states
        self.cache = PrefixCache(context, recurrent=recurrent, spill=self._spill)

    def settle(self, run: Run, others: Sequence[Run]) -> bool:
        """Give a run the sequence to go on in; ``False``: it waits for what will be there soon.

        That is room, a prefix that another is evaluating, or a state that is being read.
        ``others`` are the runs that are settled.
        """
        _, length = self.cache.best(run.goal, run.place.adapters)
        if self._is_crowded(run, others, length):
            return False
        if self._is_coming(run, others, length) or self._is_being_read(run, length):
            return False
        source, length = self.cache.best(run.goal, run.place.adapters)
        if self.cache.recurrent:
            run.stops |= self._partings(run, length)
        run.settle(self._sequence(run, source, length))
        return True

    def save_idle(self, is_wanted: Callable[[], bool] = lambda: False) -> bool:
        """Write the conversations that nobody goes on with at the moment to the disk.

        Stops where ``is_wanted`` says that there is something better to do; returns whether all
        are written.
        """
        if self._states is None:
            return True
        for sequence in self.cache.sequences:
            if is_wanted():
                return False
            held = _held(sequence)
            if sequence.conversation and not sequence.busy and not self._states.is_saved(held):
                self._states.save(held, self._context.save_state(sequence.number))
        self._states.save_kept()
        return True

    def close(self) -> None:
        """Write all that others may go on with, and stop."""
        self.save_idle()
        if self._states is not None:
            self._states.close()

    def mark(self, run: Run) -> None:
        """Keep a place that a recurrent model could not come back to otherwise."""
        sequence = run.sequence
        if sequence is None or not self.cache.recurrent:
            return
        length = len(sequence.tokens)
        if length in run.stops or length == len(run.goal):
            run.stops.discard(length)
            self.cache.branch(sequence, length)

    def _is_crowded(self, run: Run, others: Sequence[Run], length: int) -> bool:
        """Whether the cache will have no room for one more, beside those that are there."""
        taken = sum(len(other.target) - other.reused for other in others)
        return bool(others) and taken + len(run.target) - length > self._context.n_ctx

    def _is_coming(self, run: Run, others: Sequence[Run], length: int) -> bool:
        """Whether another run is about to evaluate more of the prompt than there is now."""
        most, who = length + _WORTH_IT, None
        for other in others:
            if other.place.adapters == run.place.adapters:
                shared = common(run.goal, other.target)
                if shared > most and len(other.tokens) < shared:
                    most, who = shared, other
        if who is not None:
            who.stops.add(most)
        return who is not None

    def _partings(self, run: Run, length: int) -> set[int]:
        """Where others have parted from this prompt, and more may: a place to come back to."""
        shared = (
            common(run.goal, sequence.tokens)
            for sequence in self.cache.sequences
            if sequence.adapters == run.place.adapters
        )
        longest = max(shared, default=0)
        return {longest} if longest >= length + _WORTH_IT else set()

    def _is_being_read(self, run: Run, length: int) -> bool:
        """Whether more of the prompt was saved than there is, and is not there yet."""
        if self._states is None:
            return False
        if run.saved is None:
            found = self._states.find(run.goal, run.place.adapters)
            if found is None or not found.is_worth_it(length):
                return False
            run.saved = found, found.load()
        saved, loading = run.saved
        if not loading.done():
            return True
        run.saved = None
        data = loading.result()
        if data is not None:
            self._restore(run, saved, data)
        return False

    def _restore(self, run: Run, saved: Saved, data: bytes | bytearray) -> None:
        number = self.cache.new()
        while self._context.load_state(number, data) is None:
            if not self.cache.evict():  # it may fit into the room that another leaves
                self.cache.give_back(number)
                return
        sequence = self.cache.add(number, run.place.adapters, run.goal[: saved.shared])
        if saved.shared < saved.length:
            self._context.cut(number, saved.shared)
        sequence.conversation = run.place.conversation

    def _sequence(self, run: Run, source: CachedSequence | None, length: int) -> CachedSequence:
        """The sequence to go on in: its own, one that nobody needs as it is, or a new branch."""
        own = run.sequence
        if own is not None and self.cache.usable(own, run.goal) >= length:
            self.cache.cut(own, length)
            return own
        if own is not None:
            own.busy = False
        if source is None:
            return self.cache.add(self.cache.new(), run.place.adapters, ())
        # What a recurrent model keeps is a place to come back to, also for others.
        if not self.cache.recurrent and _is_continued(source, run.place.conversation, length):
            self.cache.cut(source, length)
            return source
        return self.cache.branch(source, length)

    def _spill(self, sequence: CachedSequence) -> None:
        if self._states is not None and len(sequence.tokens) > _WORTH_IT:
            self._states.keep(_held(sequence), self._context.save_state(sequence.number))


def _is_continued(sequence: CachedSequence, conversation: str, length: int) -> bool:
    """Whether a sequence is only what this conversation has had so far."""
    if sequence.busy:
        return False
    if sequence.conversation:
        return sequence.conversation == conversation
    return length == len(sequence.tokens)


def _held(sequence: CachedSequence) -> Held:
    return Held(sequence.tokens, sequence.conversation, sequence.adapters)
