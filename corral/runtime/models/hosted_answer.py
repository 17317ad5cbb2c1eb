"""A provider's stream of message chunks as one plain answer.

Arguments are parsed strictly here. langchain's own parsing completes JSON that was cut off, so a
file that a model had half written when its tokens ran out would be written in half.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import AIMessage, AIMessageChunk, ToolCall

from corral.errors import ModelError
from corral.jsontypes import JsonObject, canonical
from corral.memory.tokens import estimate_tokens
from corral.policies.prices import Price, Tokens
from corral.runtime.models.call_ids import call_id
from corral.runtime.models.contract import FinalChunk, ModelRequest, Usage
from corral.runtime.models.hosted_request import ToolNames

INVALID_ARGS = "__invalid_json__"
"""The only key of a tool call's ``args`` when the model wrote no JSON object; see there."""

StopReason = Literal["stop", "tool_calls", "length", "refusal"]

_STOP_REASONS: Mapping[str, StopReason] = {
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "content_filter": "refusal",
    "refusal": "refusal",
}
_WRITTEN_TO_CACHE = (
    "cache_creation",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
)
_CALL_BLOCKS = ("tool_use", "input_json_delta", "function_call", "tool_call", "tool_call_chunk")


@dataclass(frozen=True)
class Expected:
    """What an answer is read against.

    ``ends`` says whether the provider always tells why it stopped, so that an answer without a
    reason was cut off.
    """

    request: ModelRequest
    names: ToolNames
    price: Price
    ends: bool


def invalid_args(args: Mapping[str, Any]) -> str | None:
    """What a model wrote instead of a JSON object, or ``None`` when ``args`` are arguments.

    A call with such arguments is never to be made: answer it with an error, and the model
    corrects itself.
    """
    return str(args[INVALID_ARGS]) if set(args) == {INVALID_ARGS} else None


def final_chunk(chunks: Sequence[AIMessageChunk], expected: Expected) -> FinalChunk:
    """The whole answer. Raises ``ModelError`` when the stream was empty or cut in the middle."""
    if not chunks:
        raise _cut("It sent no answer at all.")
    whole = chunks[0] if len(chunks) == 1 else chunks[0] + list(chunks[1:])
    assert isinstance(whole, AIMessageChunk)
    reason = _reason(whole)
    calls = _calls(whole, expected)
    if reason is None and expected.ends:
        raise _cut("The answer broke off in the middle.")
    if reason in ("tool_calls", "tool_use") and not calls:
        raise _cut("It said that it calls a tool, but no call could be read.")
    content, refused = _content(whole)
    message = AIMessage(
        content=content,
        tool_calls=calls,
        response_metadata={k: v for k, v in whole.response_metadata.items() if k != "logprobs"},
        usage_metadata=whole.usage_metadata,
    )
    return FinalChunk(message, _usage(message, expected), _stop(reason, bool(calls), refused))


def parse_args(text: str) -> JsonObject:
    """The arguments of a tool call.

    Repaired where the meaning is plain: nothing at all (no arguments), line breaks inside
    strings, a code fence around the object, an object that was quoted as a string. Anything else
    becomes ``{INVALID_ARGS: text}``.
    """
    bare = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip())
    if not bare:
        return {}
    try:
        value = json.loads(bare, strict=False)
        if isinstance(value, str):
            value = json.loads(value, strict=False)
        canonical(value).encode()
    except (ValueError, RecursionError):
        return {INVALID_ARGS: text}
    if value is None:
        return {}
    return value if isinstance(value, dict) else {INVALID_ARGS: text}


def _cut(what: str) -> ModelError:
    return ModelError(what, hint="Ask again. Is the base URL that of a model server's API?")


def _reason(whole: AIMessageChunk) -> str | None:
    """Why the model stopped, in the provider's word."""
    told = whole.response_metadata
    incomplete = told.get("incomplete_details") or {}
    reason = (
        told.get("finish_reason")
        or told.get("stop_reason")
        or incomplete.get("reason")
        or told.get("status")
    )
    return None if reason is None else str(reason)


def _stop(reason: str | None, calls: bool, refused: bool) -> StopReason:
    """The reason in our words. Some servers say "stop" when they call a tool."""
    if refused:
        return "refusal"
    known = _STOP_REASONS.get(reason or "", "stop")
    if known in ("length", "refusal"):
        return known
    return "tool_calls" if calls else "stop"


def _calls(whole: AIMessageChunk, expected: Expected) -> list[ToolCall]:
    taken = {
        call["id"]
        for message in expected.request.messages
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }
    calls = []
    for index, chunk in enumerate(whole.tool_call_chunks):
        identity = chunk["id"]
        if not identity or identity in taken:
            identity = call_id(expected.request, index)
        taken.add(identity)
        name = expected.names.original(chunk["name"] or "")
        calls.append(ToolCall(name=name, args=parse_args(chunk["args"] or ""), id=identity))
    return calls


def _content(whole: AIMessageChunk) -> tuple[str | list[str | dict[Any, Any]], bool]:
    """The content to keep, and whether it is a refusal.

    Text becomes one string. Blocks that a provider wants back (Anthropic's signed thinking) are
    kept beside it; tool calls are not: the message's ``tool_calls`` are the one truth, and a
    human may have edited them.
    """
    if isinstance(whole.content, str):
        return whole.content, False
    kept: list[str | dict[Any, Any]] = []
    refusals = []
    for block in whole.content:
        if isinstance(block, str):
            kept.append({"type": "text", "text": block})
        elif block.get("type") == "refusal":
            refusals.append(str(block.get("refusal", "")))
        elif _is_kept(block):
            kept.append({key: value for key, value in block.items() if key != "index"})
    if refusals:
        return "".join(refusals), True
    if all(isinstance(block, dict) and block.get("type") == "text" for block in kept):
        return str(whole.text), False
    return kept, False


def _is_kept(block: Mapping[str, Any]) -> bool:
    kind = block.get("type")
    if kind == "reasoning":
        # OpenAI's reasoning cannot be sent back unless it came encrypted.
        return "encrypted_content" in block
    return kind not in _CALL_BLOCKS


def _usage(message: AIMessage, expected: Expected) -> Usage:
    """What the provider counted; estimated where it does not count."""
    told: Mapping[str, Any] = message.usage_metadata or {}
    return Usage(
        input_tokens=told.get("input_tokens") or estimate_tokens(expected.request.messages),
        output_tokens=told.get("output_tokens") or estimate_tokens([message]),
        cost_usd=expected.price.cost(_billed(told)),
    )


def _billed(told: Mapping[str, Any]) -> Tokens:
    """The tokens that are paid for, from langchain's ``usage_metadata``."""
    details = told.get("input_token_details") or {}
    return Tokens(
        input=_count(told, "input_tokens"),
        output=_count(told, "output_tokens"),
        cached=_count(details, "cache_read"),
        written=sum(_count(details, key) for key in _WRITTEN_TO_CACHE),
    )


def _count(data: Mapping[str, Any], key: str) -> int:
    return int(data.get(key) or 0)
