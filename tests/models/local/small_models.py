"""GGUF files made from the bundled model: fewer layers, or another vocabulary."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from gguf import GGUFReader, GGUFValueType, GGUFWriter

_LAYER = re.compile(r"blk\.(\d+)\.")
_OWN = ("GGUF.", "general.architecture")
_NEIGHBOURS = ("ast", "Ġk")  # tokens 500 and 501 of the bundled model


def with_layers(source: Path, target: Path, layers: int) -> Path:
    """The first layers of a model, which guess what the whole one will say: sometimes rightly."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for key, field in reader.fields.items():
        if key.startswith(_OWN):
            continue
        value = layers if key.endswith(".block_count") else field.contents()
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(key, value, field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        found = _LAYER.match(tensor.name)
        if found is None or int(found[1]) < layers:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def with_tokens_swapped(source: Path, target: Path) -> Path:
    """The bundled model, with its tokens 500 and 501 in each other's place."""
    # In the bytes: to read and write a vocabulary in Python takes many times as long.
    first, second = (_written(text.encode()) for text in _NEIGHBOURS)
    data = source.read_bytes()
    assert data.count(first + second) == 1
    target.write_bytes(data.replace(first + second, second + first))
    return target


def _written(text: bytes) -> bytes:
    """A text as a GGUF file has it."""
    return struct.pack("<Q", len(text)) + text
