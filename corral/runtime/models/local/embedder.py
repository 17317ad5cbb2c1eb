"""Embeddings with llama.cpp: a small context of its own over a model's weights.

The weights are mapped from the file, so a model that also answers is not in memory twice (on a GPU
it would be: only models that are made for embeddings are put there).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral.errors import ModelError
from corral.runtime.models.local.files.gguf import GgufInfo
from corral.runtime.models.local.native.library import C, forget_errors, reasons
from corral.runtime.models.local.native.params import WeightsParams
from corral.runtime.models.local.native.weights import Weights

_SEQUENCES = 16
_MOST_TOKENS = 2_048
_MOST_OF_A_CHAT_MODEL = 512
"""Such a model makes scores for every token that it reads, which takes memory for each."""

_RANK = 4
Vector = NDArray[np.float32]


@dataclass(frozen=True)
class _Piece:
    """Tokens that are read at once: a text, or a part of a long one."""

    text: int
    tokens: Sequence[int]


class Embedder:
    """One loaded model. May be used from any thread; one text after the other is embedded."""

    def __init__(self, info: GgufInfo, *, threads: int, gpu_layers: int = 0) -> None:
        """Raises ``ModelError`` for a model that cannot be loaded or makes no embeddings."""
        self._lock = threading.Lock()
        self._weights = Weights(info, WeightsParams(gpu_layers=gpu_layers))
        self._size = int(C.llama_model_n_embd_out(self._weights.handle))
        pooling = info.count("pooling_type", -1)
        most = _MOST_TOKENS if pooling > 0 else _MOST_OF_A_CHAT_MODEL
        self._most = min(info.context_length or most, most)
        try:
            self._context = self._new_context(info, pooling, threads)
        except ModelError:
            self._weights.close()
            raise
        self._batch = C.llama_batch_init(self._most, 0, 1)

    @property
    def memory_bytes(self) -> int:
        """See ``Poolable``."""
        return self._weights.size_bytes

    @property
    def dimensions(self) -> int:
        """How long the vectors are."""
        return self._size

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector of length 1 for each text.

        A text that is longer than the context is read in parts, whose vectors are averaged by how
        long they are. An empty one has no direction: all zeros.
        """
        with self._lock:
            sums = np.zeros((len(texts), self._size), np.float32)
            for group in self._groups(self._pieces(texts)):
                for piece, vector in zip(group, self._read(group), strict=True):
                    sums[piece.text] += _normal(vector) * len(piece.tokens)
        return [_normal(row).tolist() for row in sums]

    def close(self) -> None:
        """Free the model. Safe to call twice."""
        with self._lock:
            if self._context is not None:
                C.llama_batch_free(self._batch)
                C.llama_free(self._context)
                self._context = None
                self._weights.close()

    def _new_context(self, info: GgufInfo, pooling: int, threads: int) -> Any:
        forget_errors()
        settings = C.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = self._most
        settings.n_seq_max = _SEQUENCES
        settings.n_threads = settings.n_threads_batch = threads
        settings.embeddings = True
        settings.kv_unified = True
        settings.no_perf = True
        # A model that was not made for it says nothing: the mean of all tokens serves.
        settings.pooling_type = pooling if pooling > 0 else int(C.LLAMA_POOLING_TYPE_MEAN)
        if pooling == _RANK:
            raise ModelError(
                f"{info.path} ranks answers and makes no embeddings.",
                hint="Use a model that was made for embeddings.",
            )
        context = C.llama_init_from_model(self._weights.handle, settings)
        if not context:
            raise ModelError(
                f"{info.path} cannot be used for embeddings: {reasons()}.",
                hint="Use a smaller model, or one that was made for embeddings.",
            )
        return context

    def _pieces(self, texts: Sequence[str]) -> Iterator[_Piece]:
        for number, text in enumerate(texts):
            tokens = self._weights.tokenize(text, start=True) if text else []
            for start in range(0, len(tokens), self._most):
                yield _Piece(number, tokens[start : start + self._most])

    def _groups(self, pieces: Iterator[_Piece]) -> Iterator[list[_Piece]]:
        """What fits into one evaluation."""
        group: list[_Piece] = []
        size = 0
        for piece in pieces:
            if group and (len(group) == _SEQUENCES or size + len(piece.tokens) > self._most):
                yield group
                group, size = [], 0
            group.append(piece)
            size += len(piece.tokens)
        if group:
            yield group

    def _read(self, group: Sequence[_Piece]) -> Iterator[Vector]:
        memory = C.llama_get_memory(self._context)
        if memory:
            C.llama_memory_clear(memory, True)
        batch, at = self._batch, 0
        for sequence, piece in enumerate(group):
            for position, token in enumerate(piece.tokens):
                batch.token[at], batch.pos[at] = token, position
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
                batch.logits[at] = 1
                at += 1
        batch.n_tokens = at
        status = C.llama_decode(self._context, batch)
        if status != 0:
            raise ModelError(
                f"llama.cpp could not embed {at:,} tokens (status {status}).",
                hint="Use another model for embeddings.",
            )
        for sequence in range(len(group)):
            pointer = C.llama_get_embeddings_seq(self._context, sequence)
            yield np.ctypeslib.as_array(pointer, shape=(self._size,)).copy()


def _normal(vector: Vector) -> Vector:
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector
