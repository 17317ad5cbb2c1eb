"""The pieces of an answer, put together in linear time.

langchain's own way (``chunk + chunk``) copies the answer for every piece, adds up usage that
servers tell as a running total, and joins two calls that a server gives the same index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages.tool import ToolCallChunk as Piece

from corral.jsontypes import JsonObject
from corral.runtime.models.contract import ToolCallChunk
from corral.runtime.models.hosted.names import ToolNames

_GROWING = ("text", "thinking", "signature", "data", "refusal")
"""Members of a content block that come in pieces."""


class Blocks:
    """A message's content, from the contents of its chunks."""

    def __init__(self) -> None:
        self._blocks: list[JsonObject] = []
        self._at: dict[object, JsonObject] = {}

    def add(self, content: str | list[str | dict[Any, Any]]) -> None:
        """Take the content of the next chunk."""
        for block in [content] if isinstance(content, str) else content:
            if not isinstance(block, str):
                self._add_block(block)
            elif block:
                self._add_block({"type": "text", "text": block, "index": "text"})

    def whole(self) -> list[JsonObject]:
        """The blocks in the order in which they began, without the provider's indexes."""
        return [_joined(block) for block in self._blocks]

    def _add_block(self, piece: Mapping[str, Any]) -> None:
        index = piece.get("index")
        block = self._at.get(index) if index is not None else None
        if block is None:
            block = {}
            self._blocks.append(block)
            if index is not None:
                self._at[index] = block
        for key, value in piece.items():
            if key in _GROWING and isinstance(value, str):
                block.setdefault(key, []).append(value)
            elif key == "summary" and isinstance(value, list):
                _add_summary(block.setdefault(key, {}), value)
            elif key != "index" and value is not None:
                block[key] = value


def _add_summary(parts: dict[object, list[str]], pieces: list[Any]) -> None:
    """OpenAI's summary of a reasoning: texts, each of which comes in pieces."""
    for piece in pieces:
        parts.setdefault(piece.get("index"), []).append(str(piece.get("text", "")))


def _joined(block: JsonObject) -> JsonObject:
    whole = dict(block)
    for key in _GROWING:
        if isinstance(parts := whole.get(key), list):
            whole[key] = "".join(parts)
    if isinstance(summary := whole.get("summary"), dict):
        texts = ("".join(parts) for parts in summary.values())
        whole["summary"] = [{"type": "summary_text", "text": text} for text in texts]
    return whole


@dataclass
class CallInPieces:
    """A tool call as it comes: the provider's id and name, and the arguments' text."""

    id: str = ""
    name: str = ""
    args: list[str] = field(default_factory=list)


class CallPieces:
    """The tool calls of an answer, from their pieces."""

    def __init__(self, names: ToolNames) -> None:
        self.calls: list[CallInPieces] = []
        self._names = names
        self._at: dict[int | str, int] = {}

    def add(self, piece: Piece) -> ToolCallChunk:
        """Take the next piece, and tell it in our words."""
        place = self._place(piece)
        call = self.calls[place]
        name = ""
        if piece["name"] and not call.name:
            call.name = name = self._names.original(piece["name"])
        call.id = call.id or piece["id"] or ""
        if args := piece["args"] or "":
            call.args.append(args)
        return ToolCallChunk(place, name, args)

    def _place(self, piece: Piece) -> int:
        """Which call a piece belongs to. Some servers count all their calls as the first."""
        index, identity = piece["index"], piece["id"]
        begins = index is None and bool(identity or piece["name"])
        known = len(self.calls) - 1 if index is None else self._at.get(index, -1)
        if known < 0 or begins or (identity and self.calls[known].id not in ("", identity)):
            self.calls.append(CallInPieces())
            known = len(self.calls) - 1
        if index is not None:
            self._at[index] = known
        return known


def reasoning_in(content: str | list[str | dict[Any, Any]]) -> Iterator[str]:
    """The thoughts in a chunk's content, as far as the provider shows them."""
    for block in () if isinstance(content, str) else content:
        if isinstance(block, dict) and block.get("type") == "thinking":
            yield str(block.get("thinking") or "")
        elif isinstance(block, dict) and block.get("type") == "reasoning":
            yield from (str(part.get("text") or "") for part in block.get("summary") or ())
