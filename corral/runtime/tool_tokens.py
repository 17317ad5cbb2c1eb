"""What the definitions of tools cost: their tokens in every request that offers them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from corral.jsontypes import Json, canonical
from corral.memory.text_tokens import text_tokens
from corral.tools.contract import ToolSpec


def definition_tokens(tools: Sequence[ToolSpec]) -> int:
    """Estimated tokens that the definitions of tools take of a request."""
    return _definition_tokens(tuple(tools)) if tools else 0


@lru_cache(maxsize=64)
def _definition_tokens(tools: tuple[ToolSpec, ...]) -> int:
    shown: list[Json] = [
        [spec.server, spec.tool, spec.description, spec.input_schema] for spec in tools
    ]
    return text_tokens(canonical(shown))
