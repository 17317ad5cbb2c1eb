"""A context: the cache of many sequences over one model, and their evaluation.

Nothing here is safe to call from two threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral.errors import ModelError
from corral.runtime.models.local.native.library import C, forget_errors, reasons
from corral.runtime.models.local.native.params import ContextParams, SamplerParams
from corral.runtime.models.local.native.samplers import Sampler
from corral.runtime.models.local.native.weights import Weights

_NO_ROOM = 1
_FLASH = {
    "auto": int(C.LLAMA_FLASH_ATTN_TYPE_AUTO),
    "on": int(C.LLAMA_FLASH_ATTN_TYPE_ENABLED),
    "off": int(C.LLAMA_FLASH_ATTN_TYPE_DISABLED),
}


@dataclass(frozen=True)
class Span:
    """Tokens of one sequence to evaluate, from a position on; scores of the last ``rows``."""

    sequence: int
    start: int
    tokens: Sequence[int]
    rows: int


class Context:
    """Raises ``ModelError`` when there is no memory for it. Close it before its weights."""

    def __init__(self, weights: Weights, params: ContextParams) -> None:
        self._handle = _new(weights, params)
        self._memory = C.llama_get_memory(self._handle)
        self._batch = _Batch(params.n_batch)
        self._params = params
        self.n_vocab = weights.n_vocab
        self.n_ctx = int(C.llama_n_ctx(self._handle))
        self._window = weights.window
        self._row_type = ctypes.c_float * self.n_vocab

    @property
    def n_batch(self) -> int:
        """How many tokens one evaluation takes."""
        return self._params.n_batch

    @property
    def n_sequences(self) -> int:
        """How many sequences there can be, numbered from 0."""
        return self._params.n_sequences

    def close(self) -> None:
        """Free the cache. Safe to call twice."""
        handle, self._handle = self._handle, None
        if handle is not None:
            C.llama_free(handle)

    def evaluate(self, spans: Sequence[Span]) -> bool:
        """Evaluate spans together; ``False``: the cache has no room for them, nothing changed.

        The rows are numbered as the tokens are, over all spans. Raises ``ModelError``.
        """
        status = C.llama_decode(self._handle, self._batch.filled(spans))
        if status not in (0, _NO_ROOM):
            raise ModelError(
                f"llama.cpp could not evaluate {self._batch.n_tokens:,} tokens (status {status}).",
                hint="Use a smaller context, or a build of llama-cpp-python for this machine.",
            )
        return bool(status == 0)

    def logits(self, row: int) -> NDArray[np.float32]:
        """The scores after a token, shape ``(n_vocab,)``; writing to it changes sampling."""
        pointer = C.llama_get_logits_ith(self._handle, row)
        address = ctypes.cast(pointer, ctypes.c_void_p).value
        if address is None:
            raise IndexError(f"no scores were asked for in row {row}")
        return np.frombuffer(memoryview(self._row_type.from_address(address)), dtype=np.float32)

    def sampler(self, params: SamplerParams) -> Sampler:
        """A new chain of llama.cpp's samplers for this model."""
        return Sampler(self._handle, self.n_vocab, params)

    def share(self, source: int, target: int, length: int) -> None:
        """Let an empty sequence have another's first ``length`` tokens, without a copy.

        ``length`` -1 takes all of them, which is the only way where there is no way back.
        """
        C.llama_memory_seq_cp(self._memory, source, target, 0 if length >= 0 else -1, length)

    def cut(self, sequence: int, length: int) -> bool:
        """Keep a sequence's first ``length`` tokens. ``False``: this model cannot go back there."""
        return bool(C.llama_memory_seq_rm(self._memory, sequence, length, -1))

    def can_go_on(self, sequence: int, length: int) -> bool:
        """Whether all is still there that a token after the first ``length`` looks at.

        Where a sliding window keeps a layer from looking at a cell again, llama.cpp gives the cell
        to others, also when there are empty ones. Says nothing of a recurrent model.
        """
        first = C.llama_memory_seq_pos_min(self._memory, sequence)
        return bool(self._window == 0 or 0 <= first <= max(0, length - self._window))

    def drop(self, sequence: int) -> None:
        """Empty a sequence. What it shares stays with the others."""
        C.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def state_size(self, sequence: int) -> int:
        """Bytes that ``save_state`` would give."""
        return int(C.llama_state_seq_get_size(self._handle, sequence))

    def save_state(self, sequence: int) -> bytearray:
        """What the cache holds of a sequence; only the same model and build can read it."""
        size = self.state_size(sequence)
        data = bytearray(size)
        target = (ctypes.c_uint8 * size).from_buffer(data)
        written = C.llama_state_seq_get_data(self._handle, target, size, sequence)
        del target
        del data[written:]
        return data

    def load_state(self, sequence: int, data: bytes | bytearray) -> int | None:
        """Fill an empty sequence; returns the bytes read, ``None`` when they do not fit."""
        kind = ctypes.c_uint8 * len(data)
        source = (
            kind.from_buffer(data)
            if isinstance(data, bytearray)
            else ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(kind)).contents
        )
        read = C.llama_state_seq_set_data(self._handle, source, len(data), sequence)
        return int(read) or None

    def use_adapters(self, handles: Sequence[Any], scales: Sequence[float]) -> None:
        """Evaluate with these LoRA adapters from now on."""
        count = len(handles)
        adapters = (C.llama_adapter_lora_p_ctypes * count)(*handles)
        status = C.llama_set_adapters_lora(
            self._handle, adapters, count, (ctypes.c_float * count)(*scales)
        )
        if status != 0:
            raise ModelError(
                f"llama.cpp could not apply {count} adapters (status {status}).",
                hint="Use adapters that were made for this model.",
            )


class _Batch:
    """A ``llama_batch`` over arrays that are written from Python at once and not token by token."""

    def __init__(self, size: int) -> None:
        self._token = np.zeros(size, np.int32)
        self._pos = np.zeros(size, np.int32)
        self._wanted = np.zeros(size, np.int8)
        self._sequence = np.zeros(size, np.int32)
        self._counts = np.ones(size, np.int32)
        # llama.cpp wants a pointer to the sequences of each token; each token has one.
        self._pointers = self._sequence.ctypes.data + 4 * np.arange(size, dtype=np.uintp)
        self._offsets = np.arange(size, dtype=np.int32)
        batch = C.llama_batch()
        for name, array in (
            ("token", self._token),
            ("pos", self._pos),
            ("n_seq_id", self._counts),
            ("seq_id", self._pointers),
            ("logits", self._wanted),
        ):
            kind = dict(C.llama_batch._fields_)[name]
            setattr(batch, name, ctypes.cast(array.ctypes.data, kind))
        self._batch = batch

    @property
    def n_tokens(self) -> int:
        """Of the newest filling."""
        return int(self._batch.n_tokens)

    def filled(self, spans: Sequence[Span]) -> Any:
        """The batch with the tokens of these spans."""
        at = 0
        for span in spans:
            end = at + len(span.tokens)
            self._token[at:end] = span.tokens
            np.add(self._offsets[: end - at], span.start, out=self._pos[at:end])
            self._sequence[at:end] = span.sequence
            self._wanted[at:end] = 0
            self._wanted[end - span.rows : end] = 1 if span.rows else 0
            at = end
        self._batch.n_tokens = at
        return self._batch


def _new(weights: Weights, params: ContextParams) -> Any:
    forget_errors()
    settings = C.llama_context_default_params()
    settings.n_ctx = params.n_cells
    settings.n_batch = params.n_batch
    settings.n_ubatch = params.n_batch
    settings.n_seq_max = params.n_sequences
    settings.n_threads = params.n_threads
    settings.n_threads_batch = params.n_threads
    settings.no_perf = True
    settings.flash_attn_type = _FLASH[params.flash_attention]
    settings.n_outputs_max = max(params.n_rows, params.n_sequences)
    # One pool of cells, which sequences share; a sliding window forgets as little as it can, so
    # that a sequence can be cut, and shared, nearly anywhere.
    settings.kv_unified = True
    settings.swa_full = True
    context = C.llama_init_from_model(weights.handle, settings)
    if not context:
        raise ModelError(
            f"There is no room for a context of {params.n_cells:,} tokens of "
            f"{weights.info.path}: {reasons()}.",
            hint="Use a smaller context or a smaller model.",
        )
    return context
