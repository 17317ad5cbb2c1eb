"""A provider's stream of message chunks as one plain answer.

Arguments are parsed strictly here. langchain's own parsing completes JSON that was cut off, so a
file that a model had half written when its tokens ran out would be written in half.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, ToolCall

from corral.errors import ModelError
from corral.jsontypes import Json, JsonObject, canonical
from corral.memory.tokens import estimate_tokens
from corral.policies.prices import Price
from corral.runtime.models.call_ids import call_id
from corral.runtime.models.contract import (
    Chunk,
    FinalChunk,
    ModelRequest,
    ReasoningChunk,
    StopReason,
    TextChunk,
    TokenLogprob,
    Usage,
    UsageChunk,
)
from corral.runtime.models.hosted.counting import CHARS_PER_TOKEN, priced, usage_of
from corral.runtime.models.hosted.dialects.call import Call, Target
from corral.runtime.models.hosted.dialects.messages import REASONING_FIELDS
from corral.runtime.models.hosted.dialects.outputs import unwrapped
from corral.runtime.models.hosted.pieces import Blocks, CallPieces, reasoning_in

INVALID_ARGS = "__invalid_json__"
"""The only key of a tool call's ``args`` when the model wrote no JSON object; see there."""

_STOP_REASONS: Mapping[str, StopReason] = {
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "content_filter": "content_filter",
    "refusal": "refusal",
}
_CALL_BLOCKS = ("tool_use", "input_json_delta", "function_call", "tool_call", "tool_call_chunk")
_TOLD_EVERY = 32
"""Estimated tokens after which a stream that goes on is counted again."""


class BrokenOff(ModelError):
    """An answer ended before it was whole. To ask again may help."""


@dataclass(frozen=True)
class Expected:
    """What an answer is read against; ``target`` is who was asked for it.

    ``ends`` says whether the provider always tells why it stopped, so that an answer without a
    reason was cut off.
    """

    request: ModelRequest
    target: Target
    call: Call
    price: Price
    ends: bool

    @cached_property
    def asked_tokens(self) -> int:
        """Estimated tokens of the request."""
        tools: list[Json] = [[t.name, t.description, t.input_schema] for t in self.request.tools]
        return estimate_tokens(self.request.messages) + estimate_tokens(canonical(tools))


class Draft:
    """An answer in the making."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._blocks = Blocks()
        self._calls = CallPieces(expected.call.names)
        self._told: JsonObject = {}
        self._usage: Mapping[str, Any] = {}
        self._kept: dict[str, list[str]] = {}
        self._logprobs: list[TokenLogprob] = []
        self._chars = 0
        self._counted = 0
        self.begun = False
        self.has_text = False

    def add(self, chunk: AIMessageChunk) -> Iterator[Chunk]:
        """Take the next chunk, and tell what of it can be shown."""
        self.begun = True
        self._blocks.add(chunk.content)
        self._note(chunk)
        for thought in (*reasoning_in(chunk.content), *self._plain_thoughts(chunk)):
            if thought:
                self._chars += len(thought)
                yield ReasoningChunk(thought)
        if text := str(chunk.text):
            self._chars += len(text)
            if not self._is_held:
                self.has_text = True
                yield TextChunk(text)
        for piece in chunk.tool_call_chunks:
            told = self._calls.add(piece)
            self._chars += len(told.name) + len(told.args)
            is_answer = self._calls.calls[told.index].name == self._answering_tool
            if (told.name or told.args) and not is_answer:
                yield told
        if self._chars // CHARS_PER_TOKEN >= self._counted + _TOLD_EVERY or not self._counted:
            self._counted = max(1, self._chars // CHARS_PER_TOKEN)
            yield UsageChunk(self.usage())

    def final(self) -> Iterator[Chunk]:
        """The whole answer: its text, if that was held back, and the last chunk.

        Raises ``BrokenOff`` when the stream was empty or cut in the middle.
        """
        if not self.begun:
            raise _cut("It sent no answer at all.")
        reason = _reason(self._told)
        calls = self._tool_calls()
        if reason is None and self._expected.ends:
            raise _cut("The answer broke off in the middle.")
        if reason in ("tool_calls", "tool_use") and not self._calls.calls:
            raise _cut("It said that it calls a tool, but no call could be read.")
        content, refused = self._content()
        if self._is_held and (text := AIMessage(content).text):
            yield TextChunk(str(text))
        extra: JsonObject = {name: "".join(parts) for name, parts in self._kept.items()}
        message = AIMessage(
            content=content,
            tool_calls=calls,
            additional_kwargs=extra,
            response_metadata=self._told,
            usage_metadata=self._usage or None,
        )
        stop = _stop(reason, bool(calls), refused)
        facts: JsonObject = {} if self._usage else {"usage": "estimated"}
        yield FinalChunk(message, self.usage(), stop, tuple(self._logprobs), facts=facts)

    def usage(self) -> Usage:
        """What has been used so far, estimated as far as the provider has not told it."""
        estimated = Usage(self._expected.asked_tokens, -(-self._chars // CHARS_PER_TOKEN))
        if not self._usage:
            return priced(estimated, self._expected.price)
        return usage_of(self._usage, estimated, self._expected.price)

    @property
    def _is_held(self) -> bool:
        """Whether what is streamed is not the answer's text yet, but an object that holds it."""
        wrapping = self._expected.call.wrapping
        return wrapping is not None and bool(wrapping.member or wrapping.tool)

    @property
    def _answering_tool(self) -> str | None:
        wrapping = self._expected.call.wrapping
        return wrapping.tool if wrapping and wrapping.tool else None

    def _note(self, chunk: AIMessageChunk) -> None:
        """Keep what a chunk says about the answer. The newest counts: some tell it again."""
        told = dict(chunk.response_metadata)
        self._logprobs += _logprobs(told.pop("logprobs", None))
        self._told |= {name: value for name, value in told.items() if value is not None}
        self._usage = chunk.usage_metadata or self._usage
        if refusal := chunk.additional_kwargs.get("refusal"):
            self._blocks.add([{"type": "refusal", "refusal": refusal, "index": "refusal"}])

    def _plain_thoughts(self, chunk: AIMessageChunk) -> Iterator[str]:
        for name in REASONING_FIELDS:
            if isinstance(thought := chunk.additional_kwargs.get(name), str) and thought:
                self._kept.setdefault(name, []).append(thought)
                yield thought

    def _tool_calls(self) -> list[ToolCall]:
        request = self._expected.request
        taken = {
            call["id"]
            for message in request.messages
            if isinstance(message, AIMessage)
            for call in message.tool_calls
        }
        calls = []
        for index, call in enumerate(self._calls.calls):
            if call.name == self._answering_tool:
                continue
            identity = call.id if call.id and call.id not in taken else call_id(request, index)
            taken.add(identity)
            calls.append(ToolCall(name=call.name, args=parse_args("".join(call.args)), id=identity))
        return calls

    def _content(self) -> tuple[str | list[str | dict[Any, Any]], bool]:
        """The content to keep, and whether it is a refusal.

        Text becomes one string. Blocks that a provider wants back (signed or encrypted reasoning)
        are kept beside it; tool calls are not: the message's ``tool_calls`` are the one truth,
        and a human may have edited them.
        """
        blocks = self._blocks.whole()
        refusals = [str(one.get("refusal", "")) for one in blocks if one.get("type") == "refusal"]
        if refusals:
            return "".join(refusals), True
        kept = [block for block in blocks if _is_kept(block)]
        text = self._text([str(one.get("text", "")) for one in kept if one.get("type") == "text"])
        thoughts: list[Any] = [one for one in kept if one.get("type") != "text"]
        if not thoughts:
            return text, False
        if text != "".join(str(one.get("text", "")) for one in kept):
            return [*thoughts, {"type": "text", "text": text}], False
        return [*kept], False

    def _text(self, pieces: list[str]) -> str:
        wrapping = self._expected.call.wrapping
        text = "".join(pieces)
        if wrapping is None:
            return text
        answers = [one for one in self._calls.calls if one.name == self._answering_tool]
        return unwrapped("".join(answers[0].args) if answers else text, wrapping)


def invalid_args(args: Mapping[str, Any]) -> str | None:
    """What a model wrote instead of a JSON object, or ``None`` when ``args`` are arguments.

    A call with such arguments is never to be made: answer it with an error, and the model
    corrects itself.
    """
    return str(args[INVALID_ARGS]) if set(args) == {INVALID_ARGS} else None


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


def _cut(what: str) -> BrokenOff:
    return BrokenOff(what, hint="Ask again. Is the base URL that of a model server's API?")


def _reason(told: Mapping[str, Any]) -> str | None:
    """Why the model stopped, in the provider's word."""
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
    if known in ("length", "refusal", "content_filter"):
        return known
    return "tool_calls" if calls else "stop"


def _is_kept(block: Mapping[str, Any]) -> bool:
    kind = block.get("type")
    if kind == "reasoning":
        # OpenAI's reasoning cannot be sent back unless it came encrypted.
        return "encrypted_content" in block
    if kind == "thinking":
        return bool(block.get("signature"))
    return kind not in _CALL_BLOCKS


def _logprobs(told: Any) -> list[TokenLogprob]:
    """Chat Completions' log probabilities of the tokens of one chunk."""
    entries = told.get("content") if isinstance(told, Mapping) else None
    return [
        TokenLogprob(
            str(entry["token"]),
            float(entry["logprob"]),
            tuple((str(o["token"]), float(o["logprob"])) for o in entry.get("top_logprobs") or ()),
        )
        for entry in entries or ()
    ]
