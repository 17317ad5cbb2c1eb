"""A language model that wants to say what a test wrote down, over a real vocabulary.

Its scores go to the next token of the text that it wants to say; the answer's own machinery does
the rest: prompts, constraints, sampling, reading. What it may not say it replaces by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corral.runtime.models.contract import Chunk, FinalChunk, ModelRequest
from corral.runtime.models.local.answering.answering import Answering, AnsweringOptions
from corral.runtime.models.local.files.gguf import read_gguf
from corral.runtime.models.local.model import bundled_model
from corral.runtime.models.local.native.params import SamplerParams, WeightsParams
from corral.runtime.models.local.native.weights import Weights
from corral.runtime.models.local.scheduling.contract import Begin, Step

CORRECTION = "That does not fit."


@dataclass
class WishfulContext:
    """Has ``wishes``: what it wants to say after each new prompt. Keeps what was evaluated."""

    weights: Weights
    wishes: Sequence[str]
    tokens: list[int] = field(default_factory=list)
    prompts: list[list[int]] = field(default_factory=list)
    evaluated: int = 0
    rows: list[NDArray[np.float32]] = field(default_factory=list)
    reused: int = 0

    @property
    def left(self) -> int:
        return 100_000

    def evaluate(self, step: Step) -> SimpleNamespace:
        if isinstance(step, Begin):
            self.tokens = list(step.tokens)
            if self._is_new(self.tokens):
                self.prompts.append(list(self.tokens))
            count = 1
        else:
            self.tokens += step.tokens
            count = step.rows
        self.evaluated += 1
        ends = range(len(self.tokens) - count + 1, len(self.tokens) + 1)
        self.rows = [self._scores(self.tokens[:end]) for end in ends]
        return SimpleNamespace(row=lambda index: index)

    def logits(self, row: int) -> NDArray[np.float32]:
        return self.rows[row]

    def sampler(self, params: SamplerParams) -> Any:
        del params
        take = lambda row: int(np.argmax(self.rows[row]))  # noqa: E731  # three one-liners
        return SimpleNamespace(sample=take, accept=lambda token: None, close=lambda: None)

    def _scores(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        said = tokens[len(self.prompts[-1]) :]
        noise = np.random.default_rng(len(tokens))
        scores = noise.uniform(-1, 1, self.weights.n_vocab).astype(np.float32)
        wish = self.wishes[min(len(self.prompts), len(self.wishes)) - 1]
        text = b"".join(self._bytes(token) for token in said)
        if wish.encode().startswith(text):
            rest = wish.encode()[len(text) :].decode("utf-8", "replace")
            following = self.weights.tokenize(rest) if rest else self.weights.end_tokens
            scores[following[0]] = 10.0
        else:
            scores[self.weights.end_tokens[0]] = 10.0
        return scores

    def _is_new(self, tokens: Sequence[int]) -> bool:
        """Whether this is another prompt, and not the way back in the answer to the last one."""
        last = self.prompts[-1] if self.prompts else []
        if not last or list(tokens[: len(last)]) != last:
            return True
        said = b"".join(self._bytes(token) for token in tokens[len(last) :])
        return CORRECTION in said.decode("utf-8", "replace")

    def _bytes(self, token: int) -> bytes:
        return self.weights.piece(token) or self.weights.token_text(token).encode()


@pytest.fixture(scope="session")
def weights() -> Weights:
    """The bundled model, of which only the vocabulary is used."""
    return Weights(read_gguf(bundled_model()), WeightsParams())


def spoken(
    weights: Weights,
    request: ModelRequest,
    *wishes: str,
    options: AnsweringOptions | None = None,
    drafting: Any = None,
) -> tuple[list[Chunk], FinalChunk, WishfulContext]:
    """Answer a request with a model that wants to say ``wishes``."""
    context: Any = WishfulContext(weights, wishes)
    options = options or AnsweringOptions(n_ctx=4096)
    chunks: list[Chunk] = []
    generation = Answering(weights, context, options, drafting).generation(request, chunks.append)
    steps = generation.run(context)
    try:
        step = next(steps)
        while True:
            step = steps.send(context.evaluate(step))
    except StopIteration:
        pass
    final = chunks[-1]
    assert isinstance(final, FinalChunk)
    return chunks, final, context
