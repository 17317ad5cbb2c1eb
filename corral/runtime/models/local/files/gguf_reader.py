"""Reads the bytes of a GGUF header: its settings and its tensors' shapes, and nothing of weights.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_ALIGNMENT = 32
_MAX_COUNT = 10_000_000
_MAX_KEPT = 1024
"""Numbers of a longer list (a vocabulary's) are skipped."""

_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i",
    6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip

TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2),
    26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
"""ggml type to (name, weights in a block, bytes of a block). A type not listed is not checked."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's shape (the innermost dimension first), ggml type, and size in bytes."""

    shape: tuple[int, ...]
    type: int
    size: int


@dataclass(frozen=True)
class Header:
    """What stands before the weights.

    ``metadata`` has single values, and lists of up to 1,024 numbers as tuples; of the other lists
    ``lengths`` has how long they are. ``end`` is the first byte after the last tensor.
    """

    metadata: dict[str, Any]
    lengths: dict[str, int]
    tensors: dict[str, Tensor]
    end: int


class HeaderError(ValueError):
    """The header ends early, or says what cannot be."""


def read_header(data: mmap.mmap) -> Header:
    """The header of a whole file of GGUF version 2 or 3. Raises ``HeaderError``."""
    try:
        return _Reader(data).header()
    except (struct.error, IndexError, OverflowError) as error:
        raise HeaderError(str(error)) from None


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 8
        self._metadata: dict[str, Any] = {}
        self._lengths: dict[str, int] = {}

    def header(self) -> Header:
        tensors, pairs = self._scalar("<Q"), self._scalar("<Q")
        if max(tensors, pairs) > _MAX_COUNT:
            raise HeaderError(f"{tensors} tensors and {pairs} settings")
        for _ in range(pairs):
            self._pair()
        found: dict[str, Tensor] = {}
        end = 0
        for _ in range(tensors):
            name, tensor, offset = self._tensor()
            found[name] = tensor
            end = max(end, offset + tensor.size)
        alignment = self._metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= 2**20:
            raise HeaderError("alignment")
        start = -(-self._at // alignment) * alignment
        return Header(self._metadata, self._lengths, found, start + end)

    def _scalar(self, form: str) -> Any:
        value = struct.unpack_from(form, self._data, self._at)[0]
        self._at += struct.calcsize(form)
        return value

    def _string(self) -> str:
        length = self._scalar("<Q")
        if length > len(self._data) - self._at:
            raise HeaderError("a text longer than the file")
        value = self._data[self._at : self._at + length]
        self._at += length
        return value.decode("utf-8", "replace")

    def _pair(self) -> None:
        key, kind = self._string(), self._scalar("<I")
        if kind == _STRING:
            self._metadata[key] = self._string()
        elif kind == _ARRAY:
            self._list(key)
        else:
            self._metadata[key] = self._scalar(_form(kind))

    def _list(self, key: str) -> None:
        item, count = self._scalar("<I"), self._scalar("<Q")
        if count > _MAX_COUNT:
            raise HeaderError("a list longer than the file")
        self._lengths[key] = count
        if item == _STRING:
            self._skip_strings(count)
            return
        if item == _ARRAY:
            raise HeaderError("a list of lists")
        form = _form(item)
        if count <= _MAX_KEPT:
            self._metadata[key] = tuple(self._scalar(form) for _ in range(count))
        else:
            self._at += struct.calcsize(form) * count

    def _skip_strings(self, count: int) -> None:
        unpack: Callable[..., tuple[int]] = struct.Struct("<Q").unpack_from
        at, data = self._at, self._data
        for _ in range(count):
            at += 8 + unpack(data, at)[0]
        self._at = at

    def _tensor(self) -> tuple[str, Tensor, int]:
        name, dimensions = self._string(), self._scalar("<I")
        if dimensions > 8:
            raise HeaderError(f"a tensor of {dimensions} dimensions")
        shape = tuple(self._scalar("<Q") for _ in range(dimensions))
        weights = 1
        for length in shape:
            weights *= length
        kind, offset = self._scalar("<I"), self._scalar("<Q")
        _, block, size = TENSOR_TYPES.get(kind, ("", 1, 0))
        return name, Tensor(shape, kind, weights // block * size), offset


def _form(kind: int) -> str:
    form = _SCALARS.get(kind)
    if form is None:
        raise HeaderError(f"value type {kind}")
    return form
