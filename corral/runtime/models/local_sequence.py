"""The tokens that a context holds, and the way forward and back in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from corral.runtime.models.local_llama import Llama


class Cancelled(Exception):
    """Nobody waits for the answer any more. Never leaves the engine."""


class TokenSequence:
    """Tokens that have been evaluated, so that the next prompt pays only for what is new.

    Every prompt's last token is evaluated on its own, whatever came before: the same request then
    gets the same numbers whether its beginning was in the cache or not. ``evaluated`` counts the
    tokens that went through the network since the model was loaded.
    """

    def __init__(self, llama: Llama) -> None:
        self._llama = llama
        self._tokens: list[int] = []
        self.evaluated = 0

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def room(self) -> int:
        """How many more tokens fit into the context."""
        return self._llama.n_ctx - len(self._tokens)

    def begin(self, prompt: Sequence[int], cancelled: Callable[[], bool]) -> None:
        """Make the context hold exactly this prompt."""
        self._drop(min(_common(self._tokens, prompt), len(prompt) - 1))
        *body, last = prompt[len(self._tokens) :]
        self.extend(body, cancelled)
        self.extend([last], cancelled)

    def extend(self, tokens: Sequence[int], cancelled: Callable[[], bool]) -> None:
        """Add tokens at the end. Raises ``Cancelled`` instead when nobody waits any more."""
        size = self._llama.n_batch
        for start in range(0, len(tokens), size):
            if cancelled():
                raise Cancelled
            part = tokens[start : start + size]
            self._llama.evaluate(part, len(self._tokens))
            self._tokens += part
            self.evaluated += len(part)

    def rewind(self, length: int) -> None:
        """Go back to the first ``length`` tokens, with the logits as they were there."""
        if length < len(self._tokens):
            last = self._tokens[length - 1]
            self._drop(length - 1)
            self.extend([last], lambda: False)

    def _drop(self, length: int) -> None:
        if length >= len(self._tokens):
            return
        kept = self._tokens[:length]
        if self._llama.forget(length):
            self._tokens = kept
            return
        # A recurrent model has one state and no way back: evaluate the beginning again.
        self._llama.forget_all()
        self._tokens = []
        self.extend(kept, lambda: False)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
