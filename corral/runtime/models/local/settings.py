"""``[local]``: how GGUF models run on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

FlashAttention: TypeAlias = Literal["auto", "on", "off"]


class LocalSettings(BaseModel):
    """How GGUF models run on this machine; what is left out is chosen to fit it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: int | None = Field(default=None, ge=1, description="CPU threads; all when left out.")
    gpu_layers: int | Literal["auto"] = Field(
        default="auto", description="Layers on the GPU; auto: as many as fit, -1: all."
    )
    flash_attention: FlashAttention = Field(
        default="auto",
        description="Flash attention; auto: by the device, off for a small cache on a CPU.",
    )
    parallel: int = Field(
        default=8, ge=1, le=64, description="Answers of one model that are made at once."
    )
    queue: int = Field(default=256, ge=1, description="Requests that may wait for a model.")
    cache_tokens: int | None = Field(
        default=None, ge=256, description="Tokens of all conversations that a model keeps."
    )
    memory_mb: int | None = Field(
        default=None, ge=64, description="What all loaded models may take together."
    )
    beyond_memory: bool = Field(
        default=False,
        description="Load a model also where it is larger than free memory: slow, from the disk.",
    )
    saved_memory_mb: int = Field(
        default=512, ge=0, description="Memory for conversations that left a model's cache."
    )
    saved_disk_mb: int = Field(
        default=4096, ge=0, description="Disk for conversations to go on with later; 0: none."
    )
    draft: str = Field(
        default="none",
        description="How tokens are guessed ahead: none, ngram, or a small model's GGUF file.",
    )
    model_dirs: tuple[Path, ...] = Field(
        default=(), description="Folders that are searched for GGUF files, besides the known ones."
    )
