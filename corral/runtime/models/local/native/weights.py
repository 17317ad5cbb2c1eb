"""A loaded model: its weights, which all contexts share, and its vocabulary."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

from llguidance import LLTokenizer

from corral.errors import ModelError
from corral.runtime.models.local.files.gguf import GgufInfo
from corral.runtime.models.local.native.library import C, forget_errors, reasons
from corral.runtime.models.local.native.params import WeightsParams

_CONTROL = int(C.LLAMA_TOKEN_ATTR_CONTROL)
_USER_DEFINED = int(C.LLAMA_TOKEN_ATTR_USER_DEFINED)
_LONGEST_PIECE = 16 * 1024


class Weights:
    """One loaded model. Raises ``ModelError`` when it cannot be loaded.

    ``tell`` is told how much of it is loaded, from 0 to 1; if it says ``False``, loading ends.
    ``handle`` is llama.cpp's own, for what reads or adapts the weights. What reads the vocabulary
    may be called from any thread.
    """

    def __init__(
        self,
        info: GgufInfo,
        params: WeightsParams,
        tell: Callable[[float], bool] = lambda _: True,
    ) -> None:
        self.info = info
        self.handle = _load(info, params, tell)
        self._vocab = C.llama_model_get_vocab(self.handle)
        self._pieces: dict[int, bytes] = {}
        self.n_vocab = int(C.llama_vocab_n_tokens(self._vocab))
        self.size_bytes = int(C.llama_model_size(self.handle))
        self.recurrent = bool(
            C.llama_model_is_recurrent(self.handle) or C.llama_model_is_hybrid(self.handle)
        )
        """Part of what was read is one state: there is no way back to an earlier one."""
        self.window = int(C.llama_model_n_swa(self.handle))
        """How many tokens a layer with a sliding window sees; 0: all layers see everything."""

    def close(self) -> None:
        """Free the weights, after every context over them. Safe to call twice."""
        handle, self.handle = self.handle, None
        if handle is not None:
            C.llama_model_free(handle)

    @cached_property
    def tokenizer(self) -> LLTokenizer:
        """The vocabulary as llguidance sees it (made on first use: a fifth of a second)."""
        function = ctypes.cast(C.llama_cpp._lib.llama_tokenize, ctypes.c_void_p).value
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
        data = self._text(token, control=True)
        kind = int(C.llama_vocab_get_attr(self._vocab, token))
        marker = data.startswith(b"<") and data.endswith(b">")
        special = kind & _CONTROL or (kind & _USER_DEFINED and marker)
        return b"\xff" + data if special else data

    @cached_property
    def end_tokens(self) -> list[int]:
        """Tokens that end an answer; the model's own end of sequence comes first."""
        first = C.llama_vocab_eos(self._vocab)
        ends = [t for t in range(self.n_vocab) if C.llama_vocab_is_eog(self._vocab, t)]
        return [t for t in [first] if t >= 0] + [t for t in ends if t != first]

    @cached_property
    def control_texts(self) -> re.Pattern[str] | None:
        """Matches the text of every control token, which nobody but the template may use."""
        texts = [
            self.token_text(token)
            for token in range(self.n_vocab)
            if int(C.llama_vocab_get_attr(self._vocab, token)) & _CONTROL
        ]
        longest_first = sorted((t for t in texts if len(t) > 1), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def token_text(self, token: int) -> str:
        """A token as it is written in the vocabulary."""
        text = C.llama_vocab_get_text(self._vocab, token)
        return bytes(text).decode("utf-8", "replace")

    @property
    def bos_text(self) -> str:
        """The token that begins every text; empty when the model has none."""
        token = C.llama_vocab_bos(self._vocab)
        return self.token_text(token) if token >= 0 else ""

    def tokenize(self, text: str, *, start: bool = False) -> list[int]:
        """Tokens of a text in which control tokens may be written; ``start`` adds the BOS."""
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        tokens = (C.llama_token * size)()
        count = C.llama_tokenize(self._vocab, data, len(data), tokens, size, start, True)
        if count < 0:
            raise ModelError("llama.cpp cannot tokenize the prompt.", hint="Shorten the request.")
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """The bytes of a token; empty for a control token."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._text(token, control=False)
        return known

    def _text(self, token: int, *, control: bool) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        count = C.llama_token_to_piece(self._vocab, token, buffer, 64, 0, control)
        if count < 0:
            size = min(-count, _LONGEST_PIECE)
            buffer = ctypes.create_string_buffer(size)
            count = C.llama_token_to_piece(self._vocab, token, buffer, size, 0, control)
        return buffer.raw[: max(count, 0)]


def _load(info: GgufInfo, params: WeightsParams, tell: Callable[[float], bool]) -> Any:
    forget_errors()
    settings = C.llama_model_default_params()
    settings.n_gpu_layers = params.gpu_layers
    # GCC before 14 miscompiles ggml's AMX set-up (its _tile_loadconfig names 8 of the 64 bytes
    # that it reads), and the first evaluation then kills the process. A build from source on a
    # machine with AMX has it; without the extra buffers it is not used.
    if b"AMX_INT8 = 1" in C.llama_print_system_info():
        settings.use_extra_bufts = False
    progress = C.llama_progress_callback(lambda done, _: tell(done))
    settings.progress_callback = progress
    model = C.llama_model_load_from_file(str(info.path).encode(), settings)
    if not model:
        raise ModelError(
            f"llama.cpp cannot load {info.path} (architecture "
            f"{info.architecture or 'not named'!r}): {reasons()}.",
            hint="Use a GGUF text model that this version of llama-cpp-python supports.",
        )
    return model
