"""Which tokens a grammar allows next, over a model's whole vocabulary."""

from __future__ import annotations

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray


class Mask:
    """Makes every token impossible that a grammar does not allow next."""

    def __init__(self, n_vocab: int) -> None:
        self._bits = np.zeros((n_vocab + 31) // 32, dtype=np.uint32)
        self._n_vocab = n_vocab

    def apply(self, matcher: LLMatcher, logits: NDArray[np.float32]) -> None:
        """Change a row of scores, shape ``(n_vocab,)``."""
        np.copyto(logits, -np.inf, where=~self.allowed(matcher))

    def allowed(self, matcher: LLMatcher) -> NDArray[np.bool_]:
        """Which tokens may come next, shape ``(n_vocab,)``."""
        self._fill(matcher)
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little", count=self._n_vocab)
        return bits.view(np.bool_)

    def _fill(self, matcher: LLMatcher) -> None:
        matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
