"""A GGUF file as its header describes it, checked against what is on the disk.

llama.cpp aborts the process or prints on some damaged files, so a file is looked at here first.
Only headers are read, through a memory map.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from corral.errors import ModelError
from corral.runtime.models.local.files.gguf_reader import (
    TENSOR_TYPES,
    Header,
    HeaderError,
    Tensor,
    read_header,
)

MAX_LAYERS = 512
"""More than any network has, and than llama.cpp takes."""

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_QUANTIZATIONS = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M",
    30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4", 39: "NVFP4",
}  # fmt: skip
"""llama.cpp's ``general.file_type`` by name."""

_GET_ANOTHER = "Download the file again, or give the path of another GGUF model."


@dataclass(frozen=True)
class GgufInfo:
    """What the header says.

    ``metadata`` has single values and short lists of numbers (tuples), ``lengths`` how long all
    lists are. ``size`` is in bytes. A model in several files has them all in ``parts``, the first
    of which is ``path``.
    """

    path: Path
    metadata: Mapping[str, Any]
    size: int
    tensors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    lengths: Mapping[str, int] = field(default_factory=dict, repr=False)
    parts: tuple[Path, ...] = ()

    @property
    def architecture(self) -> str:
        """The network's kind, for example ``llama``."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def context_length(self) -> int:
        """Tokens that the model was trained on at once; 0 when the file does not say."""
        return self.count("context_length")

    @property
    def chat_template(self) -> str | None:
        """The model's own Jinja chat template."""
        value = self.metadata.get("tokenizer.chat_template")
        return value if isinstance(value, str) else None

    @property
    def layers(self) -> int:
        """How many blocks the network has."""
        return self.count("block_count")

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return self.lengths.get("tokenizer.ggml.tokens", 0)

    @cached_property
    def quantization(self) -> str:
        """How the weights are stored, for example ``Q4_K_M``; empty when nothing tells."""
        named = _QUANTIZATIONS.get(self.metadata.get("general.file_type", -1))
        if named:
            return named
        sizes: Counter[int] = Counter()
        for tensor in self.tensors.values():
            sizes[tensor.type] += tensor.size
        most = sizes.most_common(1)
        return TENSOR_TYPES.get(most[0][0], ("",))[0] if most else ""

    @cached_property
    def weights_bytes(self) -> int:
        """What all tensors take."""
        return sum(tensor.size for tensor in self.tensors.values())

    def number(self, key: str) -> float | None:
        """A number of the metadata, or ``None``."""
        value = self.metadata.get(key)
        return float(value) if isinstance(value, int | float) else None

    def count(self, key: str, default: int = 0) -> int:
        """A whole number of the architecture's own settings, such as ``embedding_length``."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return value if whole else default

    def counts(self, key: str, default: int = 0) -> tuple[int, ...]:
        """Such a number for each layer; it may be written once for all of them."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, tuple) and all(isinstance(each, int) for each in value):
            return tuple(map(int, value[:MAX_LAYERS]))
        return (self.count(key, default),) * min(self.layers, MAX_LAYERS)


def read_gguf(path: Path) -> GgufInfo:
    """Read and check a GGUF file, with all its parts.

    Raises ``ModelError`` for one that is missing, cut or foreign, or is not a file at all.
    """
    info = _read_one(path)
    found = _PART.fullmatch(path.name)
    if found is None:
        return info
    if int(found["number"]) != 1:
        first = path.with_name(f"{found['stem']}-00001-of-{found['count']}.gguf")
        raise ModelError(
            f"{path} is part {int(found['number'])} of a model in {int(found['count'])} files.",
            hint=f"Give the first part: {first}",
        )
    others = [
        path.with_name(f"{found['stem']}-{number:05}-of-{found['count']}.gguf")
        for number in range(2, int(found["count"]) + 1)
    ]
    missing = [each.name for each in others if not each.is_file()]
    if missing:
        raise ModelError(
            f"The model {path} lacks {len(missing)} of its files: {', '.join(missing[:3])}.",
            hint="Put all parts of the model into one folder.",
        )
    read = [info, *map(_read_one, others)]
    return replace(
        info,
        size=sum(each.size for each in read),
        tensors={name: tensor for each in read for name, tensor in each.tensors.items()},
        parts=(path, *others),
    )


def is_later_part(path: Path) -> bool:
    """Whether a file is the second or a later part of a model in several files, by its name."""
    found = _PART.fullmatch(path.name)
    return found is not None and int(found["number"]) != 1


def _read_one(path: Path) -> GgufInfo:
    with _mapped(path) as data:
        header = _checked(path, data)
        return GgufInfo(
            path=path,
            metadata=header.metadata,
            size=len(data),
            tensors=header.tensors,
            lengths=header.lengths,
            parts=(path,),
        )


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    try:
        # A pipe would otherwise make this wait until somebody writes into it.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise ModelError(
            f"There is no model file {path}.", hint="Give the path of a GGUF file."
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from None
    try:
        state = os.fstat(number)
        if not stat.S_ISREG(state.st_mode):
            raise _unreadable(path, "it is a folder or a device and not a file")
        if state.st_size < 24:
            raise _broken(path, f"it has only {state.st_size} bytes")
        with mmap.mmap(number, 0, access=mmap.ACCESS_READ) as data:
            yield data
    finally:
        os.close(number)


def _checked(path: Path, data: mmap.mmap) -> Header:
    magic, version = bytes(data[:4]), int.from_bytes(data[4:8], "little")
    if magic != _MAGIC:
        raise ModelError(
            f"{path} is not a GGUF model: it starts with {magic!r}.",
            hint="Corral runs GGUF files. Other formats can be converted with llama.cpp's tools.",
        )
    if version not in _VERSIONS:
        raise ModelError(
            f"{path} is GGUF version {version}; versions 2 and 3 (little endian) can be read.",
            hint="Convert the model again with a current llama.cpp, or use another file.",
        )
    try:
        header = read_header(data)
    except HeaderError as error:
        raise _broken(path, f"its header ends early or is damaged ({error})") from None
    if header.end > len(data):
        raise _broken(path, f"its tensors need {header.end:,} bytes and the file has {len(data):,}")
    return header


def _broken(path: Path, why: str) -> ModelError:
    return ModelError(f"The model file {path} is damaged or incomplete: {why}.", hint=_GET_ANOTHER)


def _unreadable(path: Path, why: str) -> ModelError:
    return ModelError(
        f"The model file {path} cannot be read: {why}.",
        hint="Give the path of a GGUF file that this user may read.",
    )
