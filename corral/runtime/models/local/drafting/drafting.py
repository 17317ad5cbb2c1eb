"""What the answers of one engine are guessed with: ``[local] draft``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from corral.runtime.models.local.drafting.contract import Drafter
from corral.runtime.models.local.drafting.model import DraftModel
from corral.runtime.models.local.drafting.ngram import NgramSource
from corral.runtime.models.local.drafting.pacing import PacedDrafter
from corral.runtime.models.local.files.gguf import read_gguf
from corral.runtime.models.local.native.params import WeightsParams
from corral.runtime.models.local.native.weights import Weights
from corral.runtime.models.local.settings import FlashAttention

NONE, NGRAM = "none", "ngram"

_ASKING = 0.5
"""Wrong guesses that asking a model for nothing counts as: it has read the text all the same."""


class Drafting:
    """Lends a drafter to each answer.

    ``draft`` is ``none``, ``ngram``, or the path of a small model's file. A model guesses for one
    answer at a time: where several are made at once, they fill a batch together already. Raises
    ``ModelError`` for a file that is no model, or one with another vocabulary than ``target``.
    """

    def __init__(
        self,
        draft: str,
        target: Weights,
        *,
        n_ctx: int,
        n_threads: int,
        flash_attention: FlashAttention = "auto",
    ) -> None:
        # What cannot go back cannot take a wrong guess back either.
        self._draft = NONE if target.recurrent else draft
        self._model: DraftModel | None = None
        self._lent = False
        if self._draft not in (NONE, NGRAM):
            self._model = _opened(Path(draft), target, n_ctx, n_threads, flash_attention)

    def drafter(self) -> Drafter | None:
        """What guesses for a new answer, if something does. Close it with the answer."""
        if self._draft == NGRAM:
            return PacedDrafter(NgramSource())
        if self._model is None or self._lent:
            return None
        self._lent = True
        return PacedDrafter(_Loan(self, self._model), price=_ASKING)

    def give_back(self) -> None:
        """The model can be lent again."""
        self._lent = False

    def close(self) -> None:
        """Free the model. Safe to call twice."""
        if self._model is not None:
            self._model.close()


class _Loan:
    """The model, for one answer."""

    def __init__(self, owner: Drafting, model: DraftModel) -> None:
        self._owner: Drafting | None = owner
        self._model = model

    def guess(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        return self._model.guess(tokens, most)

    def close(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.give_back()


def _opened(
    path: Path, target: Weights, n_ctx: int, n_threads: int, flash_attention: FlashAttention
) -> DraftModel:
    weights = Weights(read_gguf(path.expanduser()), WeightsParams())
    try:
        return DraftModel(
            weights, target, n_ctx=n_ctx, n_threads=n_threads, flash_attention=flash_attention
        )
    except BaseException:
        weights.close()
        raise
