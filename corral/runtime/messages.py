"""Chat messages as JSON: how the journal holds them, and how a transcript is identified.

Only the five message types below are ever built from stored JSON: what a database names is
never imported.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from corral.errors import StorageError
from corral.jsontypes import JsonObject, canonical, digest

_TYPES: dict[str, type[BaseMessage]] = {
    "human": HumanMessage,
    "ai": AIMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
}


def encode(message: BaseMessage) -> JsonObject:
    """A message as JSON: its type and what differs from the type's defaults, without its id.

    An id names a message within one thread; it is no part of what a model reads.
    """
    data = message.model_dump(
        mode="json", exclude_defaults=True, exclude={"id", "type", "usage_metadata"}
    )
    return {"type": message.type, **data}


def decode(data: JsonObject, *, id: str | None = None) -> BaseMessage:  # noqa: A002  the field's name
    """The message that ``encode`` wrote. Raises ``StorageError`` for anything else."""
    kind = _TYPES.get(str(data.get("type")))
    if kind is None:
        raise StorageError(f"The journal holds a message of unknown type {data.get('type')!r}.")
    return kind.model_validate({**data, "id": id})


def with_own_call_ids(answer: AIMessage, before: Sequence[BaseMessage], key: str) -> AIMessage:
    """The answer with new ids for tool calls that have none, or one that was used before.

    Results are matched with calls by these ids. ``key`` is unique to the model call.
    """
    if not answer.tool_calls:
        return answer
    used = {
        call["id"]
        for message in before
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }
    calls = []
    for index, call in enumerate(answer.tool_calls):
        taken = not call["id"] or call["id"] in used
        own = f"call_{digest([key, index])[:24]}" if taken else call["id"]
        used.add(own)
        calls.append({**call, "id": own})
    return answer if calls == answer.tool_calls else answer.model_copy(update={"tool_calls": calls})


def well_formed(value: JsonObject) -> JsonObject:
    """The value without what is no Unicode text: half a surrogate pair becomes ``?``."""
    text = canonical(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        clean: JsonObject = json.loads(text.encode("utf-8", "replace"))
        return clean
    return value


class Transcripts:
    """Message digests of a run, made once per message, and what each model call has added.

    The prompt of a step is the prompt of the step before and a little more. The journal stores
    the little: ``delta`` says after which earlier entry, so that a run's journal grows with what
    was said and not with its square.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[BaseMessage, str]] = {}
        self._last: dict[str, tuple[int, list[str]]] = {}
        self._newest: tuple[list[BaseMessage], list[str]] = ([], [])

    def digests(self, messages: Sequence[BaseMessage]) -> list[str]:
        """One digest a message. A message object is encoded once, however often it is sent."""
        known, made = self._newest
        asked = list(messages)
        # A prompt is mostly the one before and a little more; comparing by identity is cheap.
        kept = len(known) if asked[: len(known)] == known else 0
        made = made[:kept] + [self._digest(message) for message in asked[kept:]]
        self._newest = (asked, made)
        return made

    def _digest(self, message: BaseMessage) -> str:
        known = self._seen.get(id(message))
        if known is not None and known[0] is message:
            return known[1]
        made = digest(encode(message))
        # The message is kept beside its digest: an id() may be used again once it is freed.
        self._seen[id(message)] = (message, made)
        return made

    def delta(self, node: str, digests: list[str]) -> tuple[int | None, int]:
        """After which entry (``None``: none) and from which message on to store."""
        seq, last = self._last.get(node, (None, []))
        if seq is not None and digests[: len(last)] == last:
            return seq, len(last)
        return None, 0

    def remember(self, node: str, seq: int, digests: list[str]) -> None:
        """The model call ``seq`` at ``node`` was asked with these messages."""
        self._last[node] = (seq, digests)

    def load(self, node: str, seq: int, request: JsonObject) -> None:
        """Take up where a stored request of an earlier process left off."""
        before = self._last.get(node, (None, []))[1] if request.get("after") is not None else []
        added = [digest(message) for message in request.get("messages", ())]
        self._last[node] = (seq, [*before, *added])
