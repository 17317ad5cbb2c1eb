"""What is asked of llama.cpp, as data: cheap to import."""

from __future__ import annotations

from dataclasses import dataclass

from corral.runtime.models.local.settings import FlashAttention


@dataclass(frozen=True)
class WeightsParams:
    """How to load a model. ``gpu_layers`` go to the GPU (-1: all)."""

    gpu_layers: int = 0


@dataclass(frozen=True)
class ContextParams:
    """A context's size: cells of the cache in tokens, what one evaluation takes, sequences.

    ``n_rows`` is how many tokens of one evaluation can have scores. ``flash_attention`` "auto" is
    llama.cpp's own choice: on where the device of a layer can do it.
    """

    n_cells: int
    n_batch: int
    n_sequences: int
    n_threads: int
    n_rows: int = 64
    flash_attention: FlashAttention = "auto"


@dataclass(frozen=True)
class SamplerParams:
    """One chain of samplers. ``temperature`` 0 takes the likeliest token."""

    temperature: float
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    seed: int = 0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0

    @property
    def penalizes(self) -> bool:
        """Whether what was said before makes a difference."""
        return (self.repeat_penalty, self.frequency_penalty, self.presence_penalty) != (1.0, 0, 0)
