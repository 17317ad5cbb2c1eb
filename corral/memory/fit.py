"""Abridge messages so that they fit in a budget, always with a note where something went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from corral.jsontypes import Json
from corral.memory.labelled import labelled
from corral.memory.notes import is_notes, turn_begin
from corral.memory.tokens import (
    PER_MESSAGE,
    call_tokens,
    content_tokens,
    estimate_tokens,
    message_tokens,
    shorten,
)
from corral.policies.provenance.labels import PUBLIC

_LEAST = 64
"""Tokens to which one message is abridged before whole messages are left out."""


def fit(
    head: list[BaseMessage], rest: list[BaseMessage], budget: int, cuts: list[int]
) -> list[BaseMessage]:
    """``head`` and ``rest`` within ``budget`` tokens.

    The longest messages are abridged first, all to one level. Where even that is not enough, the
    oldest of ``rest`` are left out up to one of ``cuts`` (indexes at which it may be cut).
    """
    everything = head + rest
    if estimate_tokens(everything) <= budget:
        return everything
    kept = rest
    if _least(everything) > budget and cuts:
        room = budget - _least(head) - 2 * _LEAST
        cut = next((cut for cut in cuts if _least(rest[cut:]) <= room), cuts[-1])
        note = f"[{cut} earlier messages left out: the model's context window is too small]"
        head = [*head, labelled(HumanMessage(note), PUBLIC), *opening(rest, cut)]
        kept = rest[cut:]
    everything = head + kept
    level = water_level([message_tokens(message) for message in everything], budget)
    view = [abridged(message, level) for message in everything]
    # Notes, ids and names cannot be shortened: what they take, the others have to give.
    while (over := estimate_tokens(view) - budget) > 0 and level > _LEAST // 2:
        level -= max(1, over // len(view))
        view = [abridged(message, level) for message in everything]
    return view


def opening(messages: Sequence[BaseMessage], cut: int) -> list[BaseMessage]:
    """What opened the turn that a cut at this index goes through: the user's message, its notes.

    Empty for a cut between turns.
    """
    begin = turn_begin(messages, cut)
    if begin == cut:
        return []
    noted = begin > 0 and is_notes(messages[begin - 1])
    return list(messages[begin - noted : begin + 1])


def water_level(costs: Sequence[int], budget: int) -> int:
    """The highest level to which the largest costs can be cut so that all sum up to ``budget``."""
    room = budget
    ordered = sorted(costs)
    for done, cost in enumerate(ordered):
        level = room // (len(ordered) - done)
        if cost > level:
            return level
        room -= cost
    return max(costs, default=0)


def abridged(message: BaseMessage, tokens: int) -> BaseMessage:
    """``message`` within ``tokens``, as far as shortening its texts and arguments goes."""
    if message_tokens(message) <= tokens:
        return message
    update: dict[str, Any] = {}
    room = tokens - PER_MESSAGE
    if isinstance(message, AIMessage) and message.tool_calls:
        share = max(_LEAST, (room - min(_LEAST, content_tokens(message.content))) * 3 // 4)
        each = max(24, share // len(message.tool_calls))
        calls = [{**call, "args": _shorter(call["args"], each)} for call in message.tool_calls]
        update["tool_calls"] = calls
        message = message.model_copy(update=update)
    room = max(24, room - call_tokens(message))
    return message.model_copy(update={"content": _shorter_content(message.content, room)})


def _least(messages: Sequence[BaseMessage]) -> int:
    return sum(min(message_tokens(message), _LEAST) for message in messages)


def _shorter_content(
    content: str | list[str | dict[Any, Any]], tokens: int
) -> str | list[str | dict[Any, Any]]:
    """The content with its texts shortened in proportion; other blocks stay as they are."""
    if isinstance(content, str):
        return shorten(content, tokens)
    texts = sum(content_tokens([block]) for block in content if _is_text(block))
    room = tokens - (content_tokens(content) - texts)
    return [_shorter_block(block, room / max(1, texts)) for block in content]


def _is_text(block: str | dict[Any, Any]) -> bool:
    return isinstance(block, str) or block.get("type") == "text"


def _shorter_block(block: str | dict[Any, Any], share: float) -> str | dict[Any, Any]:
    if not _is_text(block):
        return block
    text = block if isinstance(block, str) else str(block.get("text", ""))
    short = shorten(text, max(24, int(estimate_tokens(text) * share)))
    return short if isinstance(block, str) else {**block, "text": short}


def _shorter(value: Json, tokens: int) -> Json:
    """Arguments with their long strings shortened; their shape stays."""
    if isinstance(value, str):
        return shorten(value, tokens)
    if isinstance(value, dict):
        return {key: _shorter(item, tokens) for key, item in value.items()}
    if isinstance(value, list):
        return [_shorter(item, tokens) for item in value]
    return value
