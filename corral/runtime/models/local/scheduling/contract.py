"""What the scheduler asks of the answers that it runs, and what it lends them.

An answer in the making is a generator on the engine's thread. It yields what must be evaluated next
and is sent where the scores are; between two yields it samples, masks, and hands text on. So many
answers share one evaluation, and none of them knows of the others::

    scores = yield Begin(prompt)          # the sequence holds exactly these tokens
    token = sample(scores.row(0))
    scores = yield Extend([token])        # one more
    scores = yield Extend(draft, rows=5)  # the scores after each of the last five
    scores = yield Begin(prompt + kept)   # and back again
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from corral.runtime.models.contract import Adapter


@dataclass(frozen=True)
class Begin:
    """Make the sequence hold exactly these tokens, of which there is at least one.

    What it, or any other sequence, holds of them already is not evaluated again, but the last one
    always is: the same request then gets the same scores, whatever was in the cache. Gives one row.
    """

    tokens: Sequence[int]


@dataclass(frozen=True)
class Extend:
    """Add tokens at the end of the sequence. Gives the rows of the last ``rows`` of them."""

    tokens: Sequence[int]
    rows: int = 1


Step = Begin | Extend


class Scores(Protocol):
    """Where the scores of the tokens are, until the generator yields again."""

    def row(self, index: int) -> int:
        """The row of the evaluation's output with the scores that follow token ``index``.

        Counted over the rows that were asked for. ``native`` reads, changes and samples it.
        """
        ...


class Room(Protocol):
    """What an answer may know of the sequence that it is made in."""

    @property
    def tokens(self) -> Sequence[int]:
        """What the sequence holds now."""
        ...

    @property
    def left(self) -> int:
        """How many more tokens fit into the conversation's context."""
        ...

    @property
    def reused(self) -> int:
        """How many tokens of the newest ``Begin`` were there already."""
        ...


class Generation(Protocol):
    """One answer. Its generator runs on the engine's thread, from its first step to its end."""

    def run(self, room: Room) -> Generator[Step, Scores, None]:
        """Make the answer. It is closed early when nobody waits for it any more.

        What it raises fails this request alone.
        """
        ...


@dataclass(frozen=True)
class Place:
    """Where a generation stands in the line, and what its sequence is.

    ``conversation`` names the sequence that it goes on with, if there is one (see
    ``ModelRequest``). Sequences with different ``adapters`` share nothing: the same tokens have
    other keys and values.
    """

    conversation: str = ""
    priority: int = 0
    adapters: tuple[Adapter, ...] = ()
