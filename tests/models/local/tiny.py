"""Tiny models of other architectures, with random weights: they say nothing, but reproducibly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.models.local.ggufs import write_gguf

_WIDTH, _INNER, _STATE, _RANK, _CONV = 64, 128, 8, 8, 4
_SPECIAL = ("<|im_start|>", "<|im_end|>")


def write_mamba(path: Path) -> Path:
    """A recurrent model: one state for all that it has read, and no way back."""
    random = _Random()
    tensors = {
        "token_embd.weight": random(_n_tokens(), _WIDTH, size=1.0),
        "output_norm.weight": np.ones(_WIDTH, np.float32),
    }
    for layer in range(2):
        tensors |= {
            f"blk.{layer}.{name}": tensor
            for name, tensor in {
                "attn_norm.weight": np.ones(_WIDTH, np.float32),
                "ssm_in.weight": random(2 * _INNER, _WIDTH),
                "ssm_conv1d.weight": random(_INNER, _CONV, size=1.0),
                "ssm_conv1d.bias": random(_INNER),
                "ssm_x.weight": random(_RANK + 2 * _STATE, _INNER),
                "ssm_dt.weight": random(_INNER, _RANK),
                "ssm_dt.bias": random(_INNER),
                "ssm_a": -np.abs(random(_INNER, _STATE, size=0.5)),
                "ssm_d": np.ones(_INNER, np.float32),
                "ssm_out.weight": random(_WIDTH, _INNER),
            }.items()
        }
    settings = {
        "ssm.conv_kernel": _CONV,
        "ssm.inner_size": _INNER,
        "ssm.state_size": _STATE,
        "ssm.time_step_rank": _RANK,
    }
    return _write(path, "mamba", settings, tensors)


def write_sliding_window(path: Path) -> Path:
    """A model (gemma2) half of whose layers see the last 16 tokens only."""
    random = _Random()
    tensors = {
        # Small beside what the layers add, or else every token would be followed by itself.
        "token_embd.weight": random(_n_tokens(), _WIDTH, size=0.05),
        "output_norm.weight": np.ones(_WIDTH, np.float32),
    }
    for layer in range(4):
        norms = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        tensors |= {f"blk.{layer}.{name}.weight": np.ones(_WIDTH, np.float32) for name in norms}
        tensors |= {
            f"blk.{layer}.attn_{name}.weight": random(_WIDTH, _WIDTH)
            for name in ("q", "k", "v", "output")
        }
        tensors |= {
            f"blk.{layer}.ffn_gate.weight": random(_INNER, _WIDTH),
            f"blk.{layer}.ffn_up.weight": random(_INNER, _WIDTH),
            f"blk.{layer}.ffn_down.weight": random(_WIDTH, _INNER),
        }
    settings = {
        "attention.head_count": 2,
        "attention.head_count_kv": 2,
        "attention.key_length": 32,
        "attention.value_length": 32,
        "attention.sliding_window": 16,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    }
    return _write(path, "gemma2", settings, tensors)


class _Random:
    def __init__(self) -> None:
        self._random = np.random.default_rng(3)

    def __call__(self, *shape: int, size: float = 0.2) -> NDArray[np.float32]:
        return (self._random.standard_normal(shape) * size).astype(np.float32)


def _write(path: Path, arch: str, settings: dict[str, Any], tensors: dict[str, Any]) -> Path:
    plain = _byte_tokens()
    vocabulary = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [*plain, *_SPECIAL],
        "tokenizer.ggml.token_type": [1] * len(plain) + [3] * len(_SPECIAL),
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": len(plain) + 1,
        "tokenizer.ggml.bos_token_id": len(plain),
    }
    sizes = {
        "block_count": 2 if arch == "mamba" else 4,
        "context_length": 2048,
        "embedding_length": _WIDTH,
        "feed_forward_length": _INNER,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    return write_gguf(path, arch, {**sizes, **settings, **vocabulary}, tensors, tokens=0)


def _byte_tokens() -> list[str]:
    """A token for each byte, as byte-level vocabularies write it."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    names = {byte: chr(byte) for byte in shown}
    names |= {byte: chr(256 + at) for at, byte in enumerate(others)}
    return [names[byte] for byte in range(256)]


def _n_tokens() -> int:
    return 256 + len(_SPECIAL)
