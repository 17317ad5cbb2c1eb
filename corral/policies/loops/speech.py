"""A model that repeats its text: an answer again and again, or a passage within one answer."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from corral.policies.loops.settings import Patience
from corral.policies.loops.verdict import Verdict, times
from corral.policies.loops.wording import repeated_passage, says_the_same, words_of

_ANSWERS = 12

_WORDS = 4
"""Words of an answer that can be told from another; a label or a yes may be right every time."""


@dataclass(frozen=True)
class _Answer:
    words: frozenset[str]
    moves: int


class Speech:
    """What a model has said in one conversation, and whether anything moved in between."""

    def __init__(self) -> None:
        self._answers: deque[_Answer] = deque(maxlen=_ANSWERS)
        self._moves = 0
        self._passage: str | None = None

    def said(self, text: str, *, goes_on: bool) -> None:
        """The model has answered. ``goes_on``: it was shown what it had said before."""
        if not goes_on:
            self._answers.clear()
        self._passage = repeated_passage(text)
        words = words_of(text)
        if len(words) >= _WORDS:
            self._answers.append(_Answer(words, self._moves))

    def moved(self) -> None:
        """A call brought something, or there is something to wait for."""
        self._moves += 1

    def restart(self) -> None:
        """The model was told, or a human let it go on."""
        self._answers.clear()
        self._passage = None

    def verdict(self, patience: Patience) -> Verdict | None:
        """Whether the newest answer says what was said before."""
        if self._passage is not None:
            return Verdict("text", f'the answer repeats "{self._passage[:80]}" without end')
        if not self._answers:
            return None
        newest = self._answers[-1]
        if newest.moves != self._moves:
            return None
        count = sum(
            one.moves == newest.moves and says_the_same(one.words, newest.words)
            for one in self._answers
        )
        if count < patience.repeats:
            return None
        return Verdict("text", f"the same text was given {times(count)}, with nothing new")
