"""One answer in the making, as the scheduler sees it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import assert_never

from corral.runtime.models.local.native.context import Span
from corral.runtime.models.local.scheduling.cache import CachedSequence, Tokens
from corral.runtime.models.local.scheduling.contract import (
    Begin,
    Extend,
    Generation,
    Place,
    Scores,
    Step,
)
from corral.runtime.models.local.states.memory import Data
from corral.runtime.models.local.states.store import Saved


class Run:
    """A generation, the tokens that its sequence is to hold, and how far that has come.

    ``rows`` of the last ``target`` tokens get scores, all in one evaluation. It is ``settled`` when
    its ``sequence`` begins like the target: before, it waits for a prefix, and ``parked`` for room.
    ``stops`` are lengths at which others want to part from it. It is the ``Room`` and the
    ``Scores`` of its generation.
    """

    def __init__(self, generation: Generation, place: Place, context_window: int) -> None:
        self.place = place
        self.sequence: CachedSequence | None = None
        self.target: Tokens = array("i")
        self.rows = 1
        self.settled = False
        self.parked = False
        self.stops: set[int] = set()
        self.saved: tuple[Saved, Future[Data | None]] | None = None
        self._window = context_window
        self._reused = 0
        self._first_row = 0
        self._steps: Generator[Step, Scores, None] = generation.run(self)

    @property
    def tokens(self) -> Tokens:
        """What the sequence holds now. See ``Room``."""
        return self.sequence.tokens if self.sequence else array("i")

    @property
    def left(self) -> int:
        """How many more tokens fit into the conversation's context. See ``Room``."""
        return self._window - len(self.tokens)

    @property
    def reused(self) -> int:
        """How many tokens of the newest ``Begin`` were there already. See ``Room``."""
        return self._reused

    def row(self, index: int) -> int:
        """The row with the scores after a token. See ``Scores``."""
        return self._first_row + index

    @property
    def goal(self) -> Tokens:
        """What may come from the cache: all but what is evaluated for its scores."""
        return self.target[: len(self.target) - self.rows]

    @property
    def is_ready(self) -> bool:
        """Whether its scores are there."""
        return self.settled and len(self.tokens) == len(self.target)

    @property
    def is_decoding(self) -> bool:
        """Whether only the tokens are left whose scores are wanted."""
        return len(self.target) - len(self.tokens) <= self.rows

    def start(self) -> bool:
        """Run the generation to its first step; ``False``: it has ended."""
        return self._take(lambda: next(self._steps))

    def resume(self) -> bool:
        """Run the generation from its scores to its next step; ``False``: it has ended."""
        return self._take(lambda: self._steps.send(self))

    def close(self) -> None:
        """End the generation early."""
        self._steps.close()

    def settle(self, sequence: CachedSequence) -> None:
        """Go on in this sequence, which begins like the target."""
        self.sequence = sequence
        sequence.busy = True
        sequence.conversation = self.place.conversation or sequence.conversation
        self.settled = True
        self._reused = len(sequence.tokens)

    def unsettle(self) -> CachedSequence | None:
        """Give up the sequence, in which nothing more is evaluated."""
        sequence, self.sequence = self.sequence, None
        self.settled = False
        if sequence is not None:
            sequence.busy = False
        return sequence

    def span(self, most: int) -> Span | None:
        """What to evaluate of it next, at most ``most`` tokens; ``None``: it does not fit in."""
        assert self.sequence is not None
        have = len(self.sequence.tokens)
        body = len(self.target) - self.rows
        if have >= body:
            tokens = self.target[have:]
            return (
                Span(self.sequence.number, have, tokens, self.rows) if len(tokens) <= most else None
            )
        end = min([body, have + most, *(stop for stop in self.stops if stop > have)])
        return Span(self.sequence.number, have, self.target[have:end], 0) if end > have else None

    def evaluated(self, span: Span, row: int) -> None:
        """A span of it was evaluated, its first token in this row."""
        assert self.sequence is not None
        self.sequence.tokens.extend(span.tokens)
        self._first_row = row + len(span.tokens) - span.rows

    def _take(self, step: Callable[[], Step]) -> bool:
        try:
            asked = step()
        except StopIteration:
            return False
        match asked:
            case Begin(tokens):
                self.target, self.rows, self.settled = array("i", tokens), 1, False
            case Extend(tokens, rows):
                self.target.extend(tokens)
                self.rows = rows
            case _ as never:
                assert_never(never)
        return True
