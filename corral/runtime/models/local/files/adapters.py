"""LoRA adapters: looked at before they are loaded, and loaded once for each model.

Imports llama.cpp: only the engine imports it. Format: a GGUF file of the type ``adapter`` with two
tensors, ``NAME.lora_a`` and ``NAME.lora_b``, for each tensor of the model that it changes
(https://arxiv.org/abs/2106.09685).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corral.errors import ModelError
from corral.runtime.models.contract import Adapter
from corral.runtime.models.local.files.checks import kind_of
from corral.runtime.models.local.files.gguf import GgufInfo, read_gguf
from corral.runtime.models.local.files.gguf_reader import Tensor
from corral.runtime.models.local.native.library import C, forget_errors, reasons
from corral.runtime.models.local.native.weights import Weights

_A, _B = ".lora_a", ".lora_b"


class AdapterStore:
    """The adapters of one loaded model, by path. They are freed with the model.

    A file that has changed since is loaded again; what it was is kept until then.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._loaded: dict[tuple[str, int, int], Any] = {}

    def handles(self, adapters: Sequence[Adapter]) -> tuple[list[Any], list[float]]:
        """llama.cpp's adapters and their scales. On the engine's thread.

        Raises ``ModelError`` for a file that is missing, damaged, or for another model.
        """
        return [self._handle(Path(one.path)) for one in adapters], [one.scale for one in adapters]

    def _handle(self, path: Path) -> Any:
        key = _stamp(path)
        if key not in self._loaded:
            check_adapter(read_gguf(path), self._weights.info)
            forget_errors()
            handle = C.llama_adapter_lora_init(self._weights.handle, str(path).encode())
            if not handle:
                raise ModelError(
                    f"llama.cpp cannot load the adapter {path}: {reasons()}.",
                    hint=f"Use an adapter that was made for {self._weights.info.path.name}.",
                )
            self._loaded[key] = handle
        return self._loaded[key]


def check_adapter(adapter: GgufInfo, base: GgufInfo) -> None:
    """Raises ``ModelError`` for a file that is no LoRA adapter of this model."""
    if kind_of(adapter) != "adapter" or adapter.metadata.get("adapter.type") != "lora":
        raise ModelError(
            f"{adapter.path} is not a LoRA adapter.",
            hint="Give the path of an adapter in the GGUF format (llama.cpp's "
            "convert_lora_to_gguf makes it of others).",
        )
    if adapter.architecture != base.architecture:
        raise _foreign(adapter, base, f"it is for the architecture {adapter.architecture[:60]!r}")
    for name, low in adapter.tensors.items():
        if name.endswith(_A):
            _check_pair(name.removesuffix(_A), low, adapter, base)
        elif name.endswith(_B) and f"{name.removesuffix(_B)}{_A}" not in adapter.tensors:
            raise _foreign(adapter, base, f"{name} has no {_A[1:]}")


def _check_pair(name: str, low: Tensor, adapter: GgufInfo, base: GgufInfo) -> None:
    high, target = adapter.tensors.get(f"{name}{_B}"), base.tensors.get(name)
    if high is None:
        raise _foreign(adapter, base, f"{name}{_A} has no {_B[1:]}")
    if target is None:
        raise _foreign(adapter, base, f"there is no tensor {name[:80]} to change")
    if min(len(low.shape), len(high.shape), len(target.shape)) < 2:
        raise _foreign(adapter, base, f"{name[:80]} is no matrix")
    # The table of tokens is looked up in and not multiplied with, so its parts are the other way.
    if name == "token_embd.weight":
        fits = (high.shape[1], low.shape[1]) == target.shape[:2]
    else:
        fits = (low.shape[0], high.shape[1]) == target.shape[:2] and low.shape[1] == high.shape[0]
    if not fits:
        raise _foreign(adapter, base, f"{name[:80]} has another shape there: {target.shape}")


def _foreign(adapter: GgufInfo, base: GgufInfo, why: str) -> ModelError:
    return ModelError(
        f"The adapter {adapter.path} does not fit the model {base.path.name}: {why}.",
        hint="Use an adapter that was made for this model.",
    )


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        state = path.stat()
    except OSError as error:
        raise ModelError(
            f"The adapter {path} cannot be read: {error.strerror}.",
            hint="Give the path of a LoRA adapter in the GGUF format.",
        ) from None
    return str(path), state.st_mtime_ns, state.st_size
