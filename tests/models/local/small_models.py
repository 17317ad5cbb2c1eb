"""GGUF files made from the bundled model: fewer layers, or another vocabulary."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gguf import GGUFReader, GGUFValueType, GGUFWriter

_LAYER = re.compile(r"blk\.(\d+)\.")
_OWN = ("GGUF.", "general.architecture")
_TOKENS = "tokenizer.ggml.tokens"


def with_layers(source: Path, target: Path, layers: int) -> Path:
    """The first layers of a model, which guess what the whole one will say: sometimes rightly."""
    return _rewritten(source, target, layers, lambda key, value: value)


def with_tokens_swapped(source: Path, target: Path, first: int, second: int) -> Path:
    """One layer of a model, with two tokens of its vocabulary in each other's place."""

    def swapped(key: str, value: Any) -> Any:
        if key == _TOKENS:
            value[first], value[second] = value[second], value[first]
        return value

    return _rewritten(source, target, 1, swapped)


def _rewritten(source: Path, target: Path, layers: int, change: Callable[[str, Any], Any]) -> Path:
    reader = GGUFReader(source)
    writer = GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for key, field in reader.fields.items():
        if key.startswith(_OWN):
            continue
        value = layers if key.endswith(".block_count") else change(key, field.contents())
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
