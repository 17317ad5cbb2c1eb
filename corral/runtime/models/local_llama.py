"""llama.cpp behind a few typed calls: load, tokenize, evaluate, sample.

The only module that imports ``llama_cpp``, which takes a second: import it late. Nothing here is
safe to call from two threads.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import llama_cpp
import numpy as np
from llguidance import LLTokenizer
from numpy.typing import NDArray

from corral.errors import ModelError
from corral.runtime.models.local_gguf import GgufInfo
from corral.runtime.models.local_sampling import SamplerParams

_C: Any = llama_cpp
"""llama.cpp's C functions: their ctypes declarations do not agree with what they take."""

_PENALTY_WINDOW = 64
_CONTROL = int(_C.LLAMA_TOKEN_ATTR_CONTROL)
_USER_DEFINED = int(_C.LLAMA_TOKEN_ATTR_USER_DEFINED)
_LARGE = 2 * 1024**3
_last_log: list[str] = []


@_C.llama_log_callback  # type: ignore[untyped-decorator]  # a ctypes function type
def _quiet(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    """Keep llama.cpp's errors for our messages instead of its writing them to stderr."""
    if level == 4:
        _last_log.append(text.decode("utf-8", "replace").strip())
        del _last_log[:-5]


def _reasons() -> str:
    return "; ".join(_last_log) or "no reason given"


_C.llama_log_set(_quiet, ctypes.c_void_p(0))


@dataclass(frozen=True)
class LlamaParams:
    """How to load a model: context size and threads in numbers, layers to keep on the GPU."""

    n_ctx: int
    n_threads: int
    gpu_layers: int


class Llama:
    """One loaded model with one context. Raises ``ModelError`` when it cannot be loaded."""

    def __init__(self, info: GgufInfo, params: LlamaParams) -> None:
        _last_log.clear()
        _C.llama_backend_init()
        self._model = self._load(info, params)
        self._vocab = _C.llama_model_get_vocab(self._model)
        # A chunk is what a cancelled request may still cost, so slow models get short ones.
        slow = info.size > _LARGE and params.gpu_layers == 0
        self.n_batch = min(128 if slow else 512, params.n_ctx)
        self._context = self._new_context(info, params)
        self._memory = _C.llama_get_memory(self._context)
        self._batch = _C.llama_batch_init(self.n_batch, 0, 1)
        for i in range(self.n_batch):
            self._batch.n_seq_id[i] = 1
        self.n_vocab = int(_C.llama_vocab_n_tokens(self._vocab))
        self.n_ctx = int(_C.llama_n_ctx(self._context))
        self._buffer = ctypes.create_string_buffer(16 * 1024)

    def _load(self, info: GgufInfo, params: LlamaParams) -> Any:
        settings = _C.llama_model_default_params()
        settings.n_gpu_layers = params.gpu_layers
        # GCC before 14 miscompiles ggml's AMX set-up (its _tile_loadconfig names 8 of the 64
        # bytes that it reads), and the first evaluation then kills the process. A build from
        # source on a machine with AMX has it; without the extra buffers it is not used.
        if b"AMX_INT8 = 1" in _C.llama_print_system_info():
            settings.use_extra_bufts = False
        model = _C.llama_model_load_from_file(str(info.path).encode(), settings)
        if not model:
            raise ModelError(
                f"llama.cpp cannot load {info.path} (architecture "
                f"{info.architecture or 'not named'!r}): {_reasons()}.",
                hint="Use a GGUF text model that this version of llama-cpp-python supports.",
            )
        return model

    def _new_context(self, info: GgufInfo, params: LlamaParams) -> Any:
        settings = _C.llama_context_default_params()
        settings.n_ctx = params.n_ctx
        settings.n_batch = self.n_batch
        settings.n_ubatch = self.n_batch
        settings.n_threads = params.n_threads
        settings.n_threads_batch = params.n_threads
        settings.no_perf = True
        context = _C.llama_init_from_model(self._model, settings)
        if not context:
            _C.llama_model_free(self._model)
            raise ModelError(
                f"There is no room for a context of {params.n_ctx:,} tokens of {info.path}: "
                f"{_reasons()}.",
                hint="Use a smaller context or a smaller model.",
            )
        return context

    def close(self) -> None:
        """Free everything. The object must not be used afterwards."""
        _C.llama_batch_free(self._batch)
        _C.llama_free(self._context)
        _C.llama_model_free(self._model)

    @cached_property
    def tokenizer(self) -> LLTokenizer:
        """The vocabulary as llguidance sees it (made on first use: a fifth of a second)."""
        function = ctypes.cast(_C.llama_cpp._lib.llama_tokenize, ctypes.c_void_p).value
        made: LLTokenizer = LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]  # not in stubs
            tokens=[self._token_bytes(token) for token in range(self.n_vocab)],
            vocab_ptr=self._vocab,
            tokenize_fptr=function,
            eos_token=self.end_tokens,
            slices=None,
        )
        return made

    def _token_bytes(self, token: int) -> bytes:
        """A token for llguidance, which knows control tokens by a first byte of 255."""
        data = self.piece(token, control=True)
        kind = int(_C.llama_vocab_get_attr(self._vocab, token))
        marker = data.startswith(b"<") and data.endswith(b">")
        special = kind & _CONTROL or (kind & _USER_DEFINED and marker)
        return b"\xff" + data if special else data

    @cached_property
    def end_tokens(self) -> list[int]:
        """Tokens that end an answer; the model's own end of sequence comes first."""
        first = _C.llama_vocab_eos(self._vocab)
        ends = [t for t in range(self.n_vocab) if _C.llama_vocab_is_eog(self._vocab, t)]
        return [t for t in [first] if t >= 0] + [t for t in ends if t != first]

    @cached_property
    def control_texts(self) -> re.Pattern[str] | None:
        """Matches the text of every control token, which nobody but the template may use."""
        texts = [
            self.token_text(token)
            for token in range(self.n_vocab)
            if int(_C.llama_vocab_get_attr(self._vocab, token)) & _CONTROL
        ]
        longest_first = sorted((t for t in texts if len(t) > 1), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def token_text(self, token: int) -> str:
        """A token as it is written in the vocabulary."""
        text = _C.llama_vocab_get_text(self._vocab, token)
        return bytes(text).decode("utf-8", "replace")

    @property
    def bos_text(self) -> str:
        """The token that begins every text; empty when the model has none."""
        token = _C.llama_vocab_bos(self._vocab)
        return self.token_text(token) if token >= 0 else ""

    def tokenize(self, text: str, *, start: bool = False) -> list[int]:
        """Tokens of a text in which control tokens may be written; ``start`` adds the BOS."""
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        tokens = (_C.llama_token * size)()
        count = _C.llama_tokenize(self._vocab, data, len(data), tokens, size, start, True)
        if count < 0:
            raise ModelError("llama.cpp cannot tokenize the prompt.", hint="Shorten the request.")
        return list(tokens[:count])

    def piece(self, token: int, *, control: bool = False) -> bytes:
        """The bytes of a token; empty for a control token, unless asked for."""
        size = len(self._buffer)
        count = _C.llama_token_to_piece(self._vocab, token, self._buffer, size, 0, control)
        return self._buffer.raw[: max(count, 0)]

    def evaluate(self, tokens: Sequence[int], position: int) -> None:
        """Evaluate up to ``n_batch`` tokens at a position; the last one's logits are kept."""
        batch, count = self._batch, len(tokens)
        batch.n_tokens = count
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = position + i
            batch.seq_id[i][0] = 0
            batch.logits[i] = 0
        batch.logits[count - 1] = 1
        status = _C.llama_decode(self._context, batch)
        if status != 0:
            raise ModelError(
                f"llama.cpp could not evaluate {count} tokens at {position} (status {status}).",
                hint="Use a smaller context, or a build of llama-cpp-python for this machine.",
            )

    def forget(self, position: int) -> bool:
        """Drop what was evaluated from a position on. ``False``: this model can only drop all."""
        return bool(_C.llama_memory_seq_rm(self._memory, 0, position, -1))

    def forget_all(self) -> None:
        """Drop all that was evaluated."""
        _C.llama_memory_clear(self._memory, False)

    def logits(self) -> NDArray[np.float32]:
        """The scores of the next token, shape ``(n_vocab,)``; writing to it changes sampling."""
        pointer = _C.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(pointer, shape=(self.n_vocab,))

    def sampler(self, params: SamplerParams) -> Sampler:
        """A new chain of llama.cpp's samplers for this model."""
        return Sampler(self._context, self._vocab, params)


class Sampler:
    """A chain of llama.cpp's own samplers with its own random state."""

    def __init__(self, context: Any, vocab: Any, params: SamplerParams) -> None:
        self._context = context
        chain = _C.llama_sampler_chain_init(_C.llama_sampler_chain_default_params())
        self._chain = chain
        for sampler in _samplers(_C.llama_vocab_n_tokens(vocab), params):
            _C.llama_sampler_chain_add(chain, sampler)

    def sample(self) -> int:
        """Choose the next token from the logits of the last evaluation."""
        return int(_C.llama_sampler_sample(self._chain, self._context, -1))

    def close(self) -> None:
        """Free the chain."""
        _C.llama_sampler_free(self._chain)


def _samplers(n_vocab: int, params: SamplerParams) -> list[Any]:
    chain: list[Any] = []
    if params.repeat_penalty != 1.0:
        chain.append(
            _C.llama_sampler_init_penalties(
                n_vocab, _PENALTY_WINDOW, params.repeat_penalty, 0.0, 0.0
            )
        )
    if params.temperature <= 0:
        return [*chain, _C.llama_sampler_init_greedy()]
    if params.top_k > 0:
        chain.append(_C.llama_sampler_init_top_k(params.top_k))
    if params.top_p < 1.0:
        chain.append(_C.llama_sampler_init_top_p(params.top_p, 1))
    if params.min_p > 0.0:
        chain.append(_C.llama_sampler_init_min_p(params.min_p, 1))
    chain.append(_C.llama_sampler_init_temp(params.temperature))
    return [*chain, _C.llama_sampler_init_dist(params.seed & 0xFFFFFFFF)]
