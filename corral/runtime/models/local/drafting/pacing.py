"""How much is guessed, so that wrong guesses never cost much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

START = 8.0
MOST = 16.0

_EARNED = 1.0
_REGAINED = 0.04


class Source(Protocol):
    """Where guesses come from."""

    def guess(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        """What may follow ``tokens``, at most ``most`` of it; often nothing."""
        ...

    def close(self) -> None:
        """No more is asked. Safe to call twice."""
        ...


class PacedDrafter:
    """A ``Drafter`` with a budget of wrong guesses, in tokens.

    A wrong guess takes one, a right one gives one back, and so does, little by little, every token
    of the answer. So of an answer of ``n`` tokens at most ``START + n / 25`` more guesses are wrong
    than right, whatever the source is worth. Nothing depends on a clock: the same answer is always
    guessed in the same way.

    Of a source that costs something to ask, ``price`` is taken each time that it has no guess; once
    the budget is used up, it is not asked again for this answer.
    """

    def __init__(self, source: Source, *, price: float = 0.0) -> None:
        self._source: Source | None = source
        self._price = price
        self._budget = START
        self._asked = 0
        self._guess: Sequence[int] = ()

    def propose(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        """See ``Drafter``."""
        self._settle(tokens)
        if self._price and self._budget < 1:
            self.close()
        most = min(most, int(self._budget))
        self._guess = ()
        if self._source is not None and most > 0:
            self._guess = self._source.guess(tokens, most)
            self._budget -= 0.0 if self._guess else self._price
        return self._guess

    def close(self) -> None:
        """See ``Drafter``."""
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _settle(self, tokens: Sequence[int]) -> None:
        """See what became of the last guess: the answer says it."""
        came = tokens[self._asked :] if self._asked else ()
        right = 0
        for guessed, token in zip(self._guess, came, strict=False):
            if guessed != token:
                break
            right += 1
        wrong = len(self._guess) - right
        budget = self._budget + _EARNED * right + _REGAINED * len(came) - wrong
        self._budget = max(0.0, min(MOST, budget))
        self._asked = len(tokens)
