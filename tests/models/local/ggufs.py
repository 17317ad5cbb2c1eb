"""Writes small GGUF files: headers of any kind, adapters of the bundled model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[np.float32]]


def write_gguf(
    path: Path,
    arch: str = "llama",
    settings: Mapping[str, Any] = {},
    tensors: Tensors | None = None,
    tokens: int = 4,
) -> Path:
    """A GGUF file with one small layer and the sizes of a small model, unless said otherwise.

    A setting without a dot is one of the architecture's own; ``None`` leaves it out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(str(path), arch)
    sizes: dict[str, Any] = {
        "block_count": 1,
        "context_length": 512,
        "embedding_length": 32,
        "feed_forward_length": 64,
        "attention.head_count": 4,
    }
    for key, value in {**sizes, **settings}.items():
        whole = key.startswith(("general.", "split.", "adapter.", "tokenizer."))
        _add(writer, key if whole else f"{arch}.{key}", value)
    if tokens:
        writer.add_array("tokenizer.ggml.tokens", [f"<{number}>" for number in range(tokens)])
    if tensors is None:
        tensors = {"blk.0.attn_q.weight": np.zeros((32, 32), np.float32)}
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint64(key, value) if value >= 2**31 else writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif value is not None:
        writer.add_string(key, value)


def write_lora(path: Path, target: str, rows: int, columns: int, size: float = 1.0) -> Path:
    """A LoRA adapter of rank 4 for one tensor of a llama model, with random numbers."""
    random = np.random.default_rng(7)
    low = (random.standard_normal((4, columns)) * size).astype(np.float32)
    high = (random.standard_normal((rows, 4)) * size).astype(np.float32)
    settings = {
        "block_count": None,
        "context_length": None,
        "embedding_length": None,
        "feed_forward_length": None,
        "attention.head_count": None,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 4.0,
    }
    pair = {f"{target}.lora_a": low, f"{target}.lora_b": high}
    return write_gguf(path, "llama", settings, pair, tokens=0)
