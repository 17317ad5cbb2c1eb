"""Whether a GGUF file is a text model that can be run here, told from its header.

llama.cpp ends the whole process on some of what is refused here.
"""

from __future__ import annotations

import re
from typing import Literal

from corral.errors import ModelError
from corral.runtime.models.local.files.build import architectures
from corral.runtime.models.local.files.gguf import MAX_LAYERS, GgufInfo

Kind = Literal["model", "embedding", "adapter", "projector", "vocabulary", "data"]

_NOT_A_MODEL: dict[Kind, tuple[str, str]] = {
    "adapter": (
        "is a LoRA adapter and not a model",
        "Name the model that it was made for, and the adapter after a plus: local:MODEL+ADAPTER",
    ),
    "projector": (
        "holds what a model sees pictures with, and no text model",
        "Give the text model's file, which lies beside it.",
    ),
    "vocabulary": ("has a vocabulary and no weights", "Give the path of a whole model."),
    "data": ("has no weights of a model", "Give the path of a GGUF text model."),
    "embedding": (
        "makes embeddings and cannot answer",
        "Use it for embeddings, and a text model to chat with.",
    ),
}
_TOKEN = re.compile(r"tokenizer\.ggml\.\w+_token_id")
_NO_TOKEN = 2**32 - 1
_MOST = {"embedding_length": 2**20, "expert_count": 2**12, "context_length": 2**40}


def kind_of(info: GgufInfo) -> Kind:
    """What a GGUF file is for."""
    general = info.metadata.get("general.type")
    if general == "adapter" or any(name.endswith(".lora_a") for name in info.tensors):
        return "adapter"
    if general == "mmproj" or info.architecture == "clip":
        return "projector"
    if not any(name.startswith("blk.") for name in info.tensors):
        return "vocabulary" if info.vocabulary else "data"
    if info.metadata.get(f"{info.architecture}.attention.causal") is False:
        return "embedding"
    return "model"


def check_runnable(info: GgufInfo, *, embeds: bool = False) -> None:
    """Raises ``ModelError`` for a file that is no model to chat with (or to embed with)."""
    kind = kind_of(info)
    wrong = _NOT_A_MODEL.get(kind)
    if wrong is not None and not (embeds and kind == "embedding"):
        raise ModelError(f"{info.path} {wrong[0]}.", hint=wrong[1])
    known = architectures()
    if known and info.architecture not in known:
        raise ModelError(
            f"{info.path} has the architecture {info.architecture[:60]!r}, which the installed "
            "llama.cpp does not know.",
            hint="Install a newer llama-cpp-python, or use another model.",
        )
    if absurd := _absurd(info):
        raise ModelError(
            f"The model file {info.path} is damaged: its header says {absurd}.",
            hint="Download the file again, or give the path of another GGUF model.",
        )


def _is_token(value: object, info: GgufInfo) -> bool:
    return isinstance(value, int) and 0 <= value < max(info.vocabulary, 1)


def _absurd(info: GgufInfo) -> str:
    """What no network can have, and llama.cpp takes at its word."""
    if not 0 < info.layers <= MAX_LAYERS:
        return f"that it has {info.layers:,} layers"
    for key in ("context_length", "embedding_length"):
        if info.count(key) <= 0:
            return f"nothing of its {key}"
    for key, most in _MOST.items():
        if not 0 <= info.count(key) <= most:
            return f"{key} = {info.count(key):,}"
    for key, value in info.metadata.items():
        if _TOKEN.fullmatch(key) and value != _NO_TOKEN and not _is_token(value, info):
            return f"{key} = {value}"
    used, experts = info.count("expert_used_count"), info.count("expert_count")
    if used > experts:
        return f"that it uses {used:,} of {experts:,} experts"
    return ""
