"""What a saved state is of, and what it depends on."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.runtime.models.contract import Adapter

_SAMPLES = 16
_SAMPLE = 64 * 1024
_HEAD = 1024 * 1024


@dataclass(frozen=True)
class Held:
    """The tokens that a state is of, and whose they are.

    A ``conversation`` is a thread, or a thread and what goes on in it, with ``/`` between them. A
    state of no conversation never reaches the disk: nobody could ask to have it deleted.
    """

    tokens: Sequence[int]
    conversation: str = ""
    adapters: tuple[Adapter, ...] = ()


def token_bytes(tokens: Sequence[int]) -> bytes:
    """Tokens as 32-bit words, which compare and hash fast."""
    return array("i", tokens).tobytes()


def adapters_digest(adapters: Sequence[Adapter]) -> bytes:
    """What tells sets of adapters apart, 32 bytes. A file that was written anew is another."""
    digest = hashlib.sha256()
    for adapter in adapters:
        digest.update(repr((adapter.path, adapter.scale, _written(adapter.path))).encode())
    return digest.digest()


def _written(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
    except OSError:
        return (0, 0)
    return found.st_size, found.st_mtime_ns


def identity(model: Path, facts: Mapping[str, object]) -> bytes:
    """What a state depends on besides its tokens, as a digest of 32 bytes.

    That is the model's file (its size, when it was written, its header, and samples of its
    weights), and ``facts``: the version of llama.cpp and how its context was made.
    """
    digest = hashlib.sha256(repr(sorted(facts.items())).encode())
    with model.open("rb") as file:
        found = os.fstat(file.fileno())
        digest.update(repr((found.st_size, found.st_mtime_ns)).encode())
        digest.update(file.read(_HEAD))
        for part in range(1, _SAMPLES + 1):
            file.seek(max(0, found.st_size * part // _SAMPLES - _SAMPLE))
            digest.update(file.read(_SAMPLE))
    return digest.digest()
