"""Reads the header of a GGUF file and checks that the file holds what the header promises.

llama.cpp aborts or prints on some damaged files, so a file is looked at here first. Only the
header is read, through a memory map. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.errors import ModelError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = 32
_MAX_COUNT = 10_000_000
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i",
    6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    9: (32, 36), 10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
    15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18),
    21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4),
    27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""ggml type to (weights in a block, bytes of a block). A type not listed is not checked."""

_GET_ANOTHER = "Download the file again, or give the path of another GGUF model."


@dataclass(frozen=True)
class GgufInfo:
    """What the header says: single values of its metadata (arrays are skipped)."""

    path: Path
    metadata: dict[str, Any]
    size: int

    @property
    def architecture(self) -> str:
        """The network's kind, for example ``llama``."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def context_length(self) -> int:
        """Tokens that the model was trained on at once; 0 when the file does not say."""
        value = self.metadata.get(f"{self.architecture}.context_length", 0)
        return value if isinstance(value, int) else 0

    @property
    def chat_template(self) -> str | None:
        """The model's own Jinja chat template."""
        value = self.metadata.get("tokenizer.chat_template")
        return value if isinstance(value, str) else None

    def number(self, key: str) -> float | None:
        """A number of the metadata, or ``None``."""
        value = self.metadata.get(key)
        return float(value) if isinstance(value, int | float) else None


def read_gguf(path: Path) -> GgufInfo:
    """Read and check a GGUF file. Raises ``ModelError`` for a missing, cut or foreign file."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size < 24:
                raise _broken(path, f"it has only {size} bytes")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(path, data)
    except FileNotFoundError:
        raise ModelError(
            f"There is no model file {path}.", hint="Give the path of a GGUF file."
        ) from None
    except OSError as error:
        raise ModelError(
            f"The model file {path} cannot be read: {error.strerror}.",
            hint="Give the path of a GGUF file that this user may read.",
        ) from None


def _parse(path: Path, data: mmap.mmap) -> GgufInfo:
    reader = _Reader(data)
    magic = bytes(data[:4])
    if magic != _MAGIC:
        raise ModelError(
            f"{path} is not a GGUF model: it starts with {magic!r}.",
            hint="Corral runs GGUF files. Other formats can be converted with llama.cpp's tools.",
        )
    version = reader.scalar("<I", at=4)
    if version not in _VERSIONS:
        raise ModelError(
            f"{path} is GGUF version {version}; versions 2 and 3 (little endian) can be read.",
            hint="Convert the model again with a current llama.cpp, or use another file.",
        )
    try:
        metadata, end = reader.header(start=8)
    except (struct.error, IndexError, ValueError, UnicodeDecodeError) as error:
        raise _broken(path, f"its header ends early or is damaged ({error})") from None
    if end > len(data):
        raise _broken(path, f"its tensors need {end:,} bytes and the file has {len(data):,}")
    return GgufInfo(path=path, metadata=metadata, size=len(data))


def _broken(path: Path, why: str) -> ModelError:
    return ModelError(f"The model file {path} is damaged or incomplete: {why}.", hint=_GET_ANOTHER)


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def header(self, start: int) -> tuple[dict[str, Any], int]:
        """The metadata, and the first byte after the last tensor."""
        self._at = start
        tensors, pairs = self.scalar("<Q"), self.scalar("<Q")
        if max(tensors, pairs) > _MAX_COUNT or tensors == 0:
            raise ValueError(f"{tensors} tensors and {pairs} settings")
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            key = self.string()
            value = self._value(self.scalar("<I"))
            if value is not None:
                metadata[key] = value
        ends = [self._tensor_end() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0:
            raise ValueError("alignment")
        return metadata, -(-self._at // alignment) * alignment + max(ends)

    def scalar(self, form: str, at: int | None = None) -> Any:
        if at is not None:
            self._at = at
        value = struct.unpack_from(form, self._data, self._at)[0]
        self._at += struct.calcsize(form)
        return value

    def string(self) -> str:
        length = self.scalar("<Q")
        if length > len(self._data) - self._at:
            raise ValueError("a text longer than the file")
        value = self._data[self._at : self._at + length]
        self._at += length
        return value.decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.scalar(_form(kind))
        item, count = self.scalar("<I"), self.scalar("<Q")
        if count > _MAX_COUNT:
            raise ValueError("a list longer than the file")
        if item == _STRING:
            self._skip_strings(count)
        elif item == _ARRAY:
            raise ValueError("a list of lists")
        else:
            self._at += struct.calcsize(_form(item)) * count
        return None

    def _skip_strings(self, count: int) -> None:
        unpack: Callable[..., tuple[int]] = struct.Struct("<Q").unpack_from
        at, data = self._at, self._data
        for _ in range(count):
            at += 8 + unpack(data, at)[0]
        self._at = at

    def _tensor_end(self) -> int:
        self.string()
        dimensions = self.scalar("<I")
        if dimensions > 8:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        weights = 1
        for _ in range(dimensions):
            weights *= self.scalar("<Q")
        kind, offset = self.scalar("<I"), self.scalar("<Q")
        block, size = _BLOCKS.get(kind, (1, 0))
        return int(offset + weights // block * size)


def _form(kind: int) -> str:
    form = _SCALARS.get(kind)
    if form is None:
        raise ValueError(f"value type {kind}")
    return form
