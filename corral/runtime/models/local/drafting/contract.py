"""What guesses ahead.

The tokens that come out are those that the sampler chooses from the model's own scores, one after
the other, guessed or not: a guess decides only what is evaluated together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Drafter(Protocol):
    """Guesses for one answer, on the engine's thread."""

    def propose(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        """What may follow ``tokens``, which are the prompt and the answer so far; often nothing.

        Never more than ``most``. It learns from what is asked next how good its guesses were.
        """
        ...

    def close(self) -> None:
        """The answer has ended. Safe to call twice."""
        ...
