"""JSON values, their canonical text and their digest.

Everything that crosses the journal is JSON: two requests are the same request when their
canonical texts are equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
"""A JSON value, read-only."""

JsonObject: TypeAlias = dict[str, Any]
"""A JSON object at the border, where its shape is not known."""


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: Json) -> str:
    """The one text of a JSON value: keys sorted, no spaces, no escapes that are not needed."""
    return _ENCODER.encode(value)


def digest(value: Json) -> str:
    """SHA-256 of the canonical text, in hexadecimal (64 characters)."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()
