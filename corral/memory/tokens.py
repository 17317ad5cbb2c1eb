"""How many tokens a text or a history may take, estimated without a tokenizer.

The estimate is a pure function of the text, so a replay on another machine decides as the run
did. It errs upwards: against the bundled model's tokenizer it gives 1.0 to 1.9 times the true
count on prose, code, JSON, numbers and non-Latin scripts (0.9 on random base64).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from corral.jsontypes import canonical
from corral.memory.text_tokens import text_tokens

PER_MESSAGE = 8
"""Tokens for role markers and separators around one message."""

PER_MEDIUM = 2000
"""Tokens for an image, a sound or a file inside a message, whose true cost only its model knows."""

_MEDIA = ("image", "image_url", "audio", "input_audio", "file", "video", "document")
_CALLS = ("tool_use", "tool_call", "function_call")


def estimate_tokens(what: str | Sequence[BaseMessage]) -> int:
    """Estimated tokens of a text, or of messages with their tool calls and role markers."""
    if isinstance(what, str):
        return text_tokens(what)
    return sum(message_tokens(message) for message in what)


def message_tokens(message: BaseMessage) -> int:
    """Estimated tokens of one message."""
    return PER_MESSAGE + content_tokens(message.content) + call_tokens(message)


def content_tokens(content: str | Sequence[str | dict[Any, Any]]) -> int:
    """Estimated tokens of a message's content, tool calls inside it not counted."""
    if isinstance(content, str):
        return text_tokens(content)
    return sum(_block_tokens(block) for block in content)


def call_tokens(message: BaseMessage) -> int:
    """Estimated tokens of the tool calls that a message makes, or of the id that it answers."""
    if isinstance(message, ToolMessage):
        return text_tokens(message.tool_call_id)
    if not isinstance(message, AIMessage):
        return 0
    return sum(
        PER_MESSAGE + text_tokens(canonical([call["name"], call["args"], call["id"] or ""]))
        for call in message.tool_calls
    )


def shorten(text: str, tokens: int) -> str:
    """``text`` if it fits in ``tokens``, else its beginning and end around a note of what went.

    The note itself takes some 20 tokens and is never left out.
    """
    if text_tokens(text) <= tokens:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text_tokens(_excerpt(text, middle)) <= tokens:
            low = middle
        else:
            high = middle - 1
    return _excerpt(text, low)


def _excerpt(text: str, characters: int) -> str:
    head = characters - characters // 3
    tail = characters // 3
    note = f"[… {len(text) - characters} of {len(text)} characters left out …]"
    return f"{text[:head]}\n{note}\n{text[len(text) - tail :]}" if characters else note


def _block_tokens(block: str | dict[Any, Any]) -> int:
    if isinstance(block, str):
        return text_tokens(block)
    kind = block.get("type")
    if kind in _MEDIA:
        return PER_MEDIUM
    if kind in _CALLS:
        return 0
    if kind == "text":
        return text_tokens(str(block.get("text", "")))
    return text_tokens(canonical(block))
