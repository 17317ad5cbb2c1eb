"""Streams as providers send them, built from what is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.models.wire.server import Reply

Event = Mapping[str, Any]


def events(*told: Event, named: bool = False, before: str = "") -> Reply:
    """Server-sent events; ``named`` ones have their type as their name, too."""
    lines = [
        (f"event: {event['type']}\n" if named else "") + f"data: {json.dumps(event)}\n\n"
        for event in told
    ]
    return Reply((before + "".join(lines)).encode())


def completion(
    *deltas: Event, finish: str | None = "stop", usage: Event | None = None, **choice: Any
) -> Reply:
    """Chat Completions: one event for each delta, then the end and the usage."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    told: list[Event] = [
        {**head, "choices": [{"index": 0, "delta": d, "finish_reason": None, **choice}]}
        for d in deltas
    ]
    if finish is not None:
        told.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage is not None:
        told.append({**head, "choices": [], "usage": usage})
    reply = events(*told)
    return Reply(reply.body + b"data: [DONE]\n\n")


def call_delta(index: int | None, *, id: str = "", name: str = "", args: str = "") -> Event:  # noqa: A002  the wire's name
    """A piece of a tool call in Chat Completions."""
    call: dict[str, Any] = {"function": {"name": name or None, "arguments": args}}
    if index is not None:
        call["index"] = index
    if id:
        call |= {"id": id, "type": "function"}
    return {"tool_calls": [call]}


def message(*blocks: Sequence[Event], stop: str = "end_turn", usage: Event | None = None) -> Reply:
    """Anthropic's Messages: each block is its start and its deltas."""
    counted = {"input_tokens": 10, "output_tokens": 1, **(usage or {})}
    start = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
    }
    told: list[Event] = [{"type": "message_start", "message": {**start, "usage": counted}}]
    for index, (first, *deltas) in enumerate(blocks):
        told.append({"type": "content_block_start", "index": index, "content_block": first})
        told += [{"type": "content_block_delta", "index": index, "delta": d} for d in deltas]
        told.append({"type": "content_block_stop", "index": index})
    told.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": counted})
    told.append({"type": "message_stop"})
    return events(*told, named=True)


def text_block(*texts: str) -> list[Event]:
    """Text in a message of Anthropic's."""
    return [
        {"type": "text", "text": ""},
        *({"type": "text_delta", "text": text} for text in texts),
    ]


def response(*items: Event, usage: Event | None = None, **fields: Any) -> Reply:
    """OpenAI's Responses: each item comes whole, then the response that holds them."""
    whole: dict[str, Any] = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m"}
    whole |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "output": []}
    told: list[Event] = [
        {"type": "response.created", "response": {**whole, "status": "in_progress"}}
    ]
    for index, item in enumerate(items):
        told += _item_events(index, item)
    counted = usage or {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    end = {**whole, "status": "completed", "output": list(items), "usage": counted, **fields}
    kind = "response.completed" if end["status"] == "completed" else "response.incomplete"
    told.append({"type": kind, "response": end})
    numbered = [{**event, "sequence_number": number} for number, event in enumerate(told)]
    return events(*numbered, named=True)


def _item_events(index: int, item: Event) -> list[Event]:
    at = {"output_index": index}
    begun = {**item, "status": "in_progress"}
    middle: list[Event] = []
    if item["type"] == "message":
        begun |= {"content": []}
        for place, part in enumerate(item["content"]):
            where = {**at, "item_id": item["id"], "content_index": place}
            kind = "output_text" if "text" in part else "refusal"
            said = part.get("text") or part.get("refusal")
            middle.append({"type": f"response.{kind}.delta", **where, "delta": said})
            named = {"text" if kind == "output_text" else "refusal": said}
            middle.append({"type": f"response.{kind}.done", **where, **named})
    elif item["type"] == "reasoning":
        begun |= {"summary": []}
        for place, part in enumerate(item["summary"]):
            where = {**at, "item_id": item["id"], "summary_index": place}
            added = {"type": "summary_text", "text": ""}
            middle.append({"type": "response.reasoning_summary_part.added", **where, "part": added})
            delta = {"type": "response.reasoning_summary_text.delta", "delta": part["text"]}
            middle.append({**delta, **where})
    return [
        {"type": "response.output_item.added", **at, "item": begun},
        *middle,
        {"type": "response.output_item.done", **at, "item": item},
    ]
