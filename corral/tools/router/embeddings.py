"""Static embeddings of short English texts, without a model that runs: a vector for each token.

The vectors are those of WordLlama (Miller 2024): 256 dimensions of 32,000 tokens, trained so that
the mean over a text is its embedding; what a token weighs in it is its vector's length. They are
read from the files in the package ``wordllama``, whose own code is never imported: it takes
seconds, and its loader goes to the network.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    Vectors = NDArray[np.float32]

MAX_TEXT = 2000
"""How many characters of a text count."""

_PACKAGE = "wordllama"
_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENS = "tokenizers/l2_supercat_tokenizer_config.json"
_TENSOR = "embedding.weight"


class StaticEmbeddings:
    """Texts as vectors of length 1. Use ``static_embeddings``, which loads them once."""

    def __init__(self, tokenizer: Tokenizer, table: Any) -> None:
        self._tokenizer = tokenizer
        self._table = table

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A row for each text; of one without tokens, zeros."""
        import numpy as np

        lowered = [_encodable(text[:MAX_TEXT].lower()) for text in texts]
        encoded = self._tokenizer.encode_batch_fast(lowered, add_special_tokens=False)
        found = np.zeros((len(texts), self._table.shape[1]), np.float32)
        for row, tokens in zip(found, encoded, strict=True):
            if tokens.ids:
                row[:] = self._table[tokens.ids].astype(np.float32).sum(axis=0)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        unit: Vectors = found / np.maximum(lengths, np.finfo(np.float32).tiny)
        return unit


@lru_cache(maxsize=1)
def static_embeddings() -> StaticEmbeddings:
    """The embeddings, loaded at the first use: some tenths of a second, and never on an event loop.

    The table is mapped and not read: what is used of it is in memory.
    """
    from tokenizers import Tokenizer

    folder = _folder()
    tokenizer = Tokenizer.from_str((folder / _TOKENS).read_text("utf-8"))
    return StaticEmbeddings(tokenizer, _mapped(folder / _WEIGHTS))


def _encodable(text: str) -> str:
    """The text without halves of surrogate pairs, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _folder() -> Path:
    spec = find_spec(_PACKAGE)  # of a top-level package: nothing is imported
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def _mapped(path: Path) -> Any:
    """The one table in a safetensors file: a header's length, a header in JSON, and the data."""
    import numpy as np

    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        tensor = json.loads(file.read(length))[_TENSOR]
    begin = 8 + length + tensor["data_offsets"][0]
    return np.memmap(path, np.float16, "r", offset=begin, shape=tuple(tensor["shape"]))
