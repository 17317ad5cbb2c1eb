"""A small model that guesses what a larger one with the same vocabulary will say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from corral.errors import ModelError
from corral.runtime.models.local.native.context import Context, Span
from corral.runtime.models.local.native.params import ContextParams
from corral.runtime.models.local.native.weights import Weights
from corral.runtime.models.local.settings import FlashAttention
from corral.runtime.models.local.states.held import token_bytes
from corral.runtime.models.local.states.prefixes import common

_SURE = 0.5
"""A guess of which the small model is less sure than this is mostly wrong."""

_BATCH = 256
_MOST_DIFFERENT = 128
"""Tokens by which two vocabularies of one family differ at their end."""


class DraftModel:
    """A loaded model with a context of one sequence, of which it keeps what it can.

    Raises ``ModelError`` when its vocabulary is not that of ``target``.
    """

    def __init__(
        self,
        weights: Weights,
        target: Weights,
        *,
        n_ctx: int,
        n_threads: int,
        flash_attention: FlashAttention = "auto",
    ) -> None:
        check_vocabularies(weights, target)
        batch = min(_BATCH, n_ctx)
        self._weights = weights
        self._n_vocab = min(weights.n_vocab, target.n_vocab)
        params = ContextParams(n_ctx, batch, 1, n_threads, flash_attention=flash_attention)
        self._context = Context(weights, params)
        self._held: list[int] = []

    def close(self) -> None:
        """Free the context and the weights. Safe to call twice."""
        self._context.close()
        self._weights.close()

    def guess(self, tokens: Sequence[int], most: int) -> list[int]:
        """What likely follows, as far as it is sure.

        Of a text that is new to it, it reads a part only, and guesses nothing yet: so other answers
        do not wait for it.
        """
        if not tokens or len(tokens) + most > self._context.n_ctx:
            return []
        self._go_back(tokens)
        rest = list(tokens[len(self._held) :])
        row = self._read(rest[: self._context.n_batch])
        if row is None or len(rest) > self._context.n_batch:
            return []
        guessed: list[int] = []
        while row is not None:
            token = _sure(self._context.logits(row)[: self._n_vocab])
            if token is None:
                break
            guessed.append(token)
            row = self._read([token]) if len(guessed) < most else None
        return guessed

    def _go_back(self, tokens: Sequence[int]) -> None:
        """Drop what is held and not in ``tokens``; the last of those is always read again."""
        held, asked = token_bytes(self._held), token_bytes(tokens)
        length = min(common(held, asked), len(tokens) - 1)
        if length < len(self._held):
            if not self._context.cut(0, length):
                self._context.drop(0)
                length = 0
            del self._held[length:]

    def _read(self, tokens: list[int]) -> int | None:
        """Evaluate tokens; the row with the scores after them, ``None`` when there is no room."""
        if not self._context.evaluate([Span(0, len(self._held), tokens, 1)]):
            return None
        self._held += tokens
        return len(tokens) - 1


def check_vocabularies(draft: Weights, target: Weights) -> None:
    """Raises ``ModelError`` when one cannot guess for the other."""
    both = min(draft.n_vocab, target.n_vocab)
    if abs(draft.n_vocab - target.n_vocab) > _MOST_DIFFERENT:
        raise _unfit(
            draft, target, f"it has {draft.n_vocab:,} tokens instead of {target.n_vocab:,}"
        )
    for token in range(both):
        one, other = draft.token_text(token), target.token_text(token)
        if one != other:
            raise _unfit(draft, target, f"token {token} is {one!r} instead of {other!r}")


def _unfit(draft: Weights, target: Weights, why: str) -> ModelError:
    return ModelError(
        f"{draft.info.path} cannot guess for {target.info.path}: {why}.",
        hint='Set `draft` in [local] to a small model of the same family, or to "ngram".',
    )


def _sure(scores: NDArray[np.float32]) -> int | None:
    """The likeliest token, if it is likely enough."""
    token = int(scores.argmax())
    # exp(s - max) of the likeliest is 1, so that the sum of all is its odds.
    odds = float(np.exp(scores - scores[token]).sum())
    return token if odds * _SURE <= 1.0 else None
