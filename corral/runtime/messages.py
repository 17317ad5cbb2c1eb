"""Chat messages as JSON: how the journal holds them, and how a transcript is identified.

Only the five message types below are ever built from stored JSON: what a database names is
never imported.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from corral.errors import StorageError
from corral.jsontypes import JsonObject, canonical, digest
from corral.policies.provenance.labels import KEY as LABEL

_TYPES: dict[str, type[BaseMessage]] = {
    "human": HumanMessage,
    "ai": AIMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
}


def encode(message: BaseMessage) -> JsonObject:
    """A message as JSON: its type and what differs from the type's defaults.

    Its id names it within one thread, and its label says where it came from: neither is part of
    what a model reads.
    """
    data = message.model_dump(
        mode="json", exclude_defaults=True, exclude={"id", "type", "usage_metadata"}
    )
    extra = data.get("additional_kwargs")
    if extra and LABEL in extra:
        data["additional_kwargs"] = {key: one for key, one in extra.items() if key != LABEL}
        if not data["additional_kwargs"]:
            del data["additional_kwargs"]
    return {"type": message.type, **data}


def decode(data: JsonObject, *, id: str | None = None) -> BaseMessage:  # noqa: A002  the field's name
    """The message that ``encode`` wrote. Raises ``StorageError`` for anything else."""
    kind = _TYPES.get(str(data.get("type")))
    if kind is None:
        raise StorageError(f"The journal holds a message of unknown type {data.get('type')!r}.")
    return kind.model_validate({**data, "id": id})


class CallIds:
    """The ids of the tool calls in a transcript that grows from call to call."""

    def __init__(self) -> None:
        self._known: list[BaseMessage] = []
        self._ids: set[str | None] = set()

    def of(self, messages: Sequence[BaseMessage]) -> set[str | None]:
        """The ids in ``messages``, not to be changed; only what was added is looked at."""
        asked = list(messages)
        if asked[: len(self._known)] != self._known:
            self._known, self._ids = [], set()
        for message in asked[len(self._known) :]:
            if isinstance(message, AIMessage):
                self._ids.update(call["id"] for call in message.tool_calls)
        self._known = asked
        return self._ids


def with_own_call_ids(answer: AIMessage, used: set[str | None], key: str) -> AIMessage:
    """The answer with new ids for tool calls that have none, or one that is in ``used``.

    Results are matched with calls by these ids. ``key`` is unique to the model call.
    """
    calls = []
    taken: set[str | None] = set()
    for index, call in enumerate(answer.tool_calls):
        own = call["id"]
        if not own or own in used or own in taken:
            own = f"call_{digest([key, index])[:24]}"
        taken.add(own)
        calls.append({**call, "id": own})
    return answer if calls == answer.tool_calls else answer.model_copy(update={"tool_calls": calls})


def well_formed(value: JsonObject) -> JsonObject:
    """The value without what is no Unicode text: half a surrogate pair becomes ``?``."""
    text = canonical(value)
    if text.isascii():
        return value
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
        self._seen: dict[int, _Encoded] = {}
        self._last: dict[str, tuple[int, list[str]]] = {}
        self._newest = _Prompt()

    def digests(self, messages: Sequence[BaseMessage]) -> list[str]:
        """One digest a message. A message object is encoded once, however often it is sent."""
        return self._prompt(messages).digests

    def identity(self, request: JsonObject, messages: Sequence[BaseMessage]) -> str:
        """The ``digest`` of ``request`` with these digests as its ``messages``.

        No step may cost what the thread is long: as the first key they are hashed as they come.
        """
        prompt = self._prompt(messages)
        if min(request, default="~") <= "messages":
            return digest({**request, "messages": prompt.digests})
        whole = prompt.hashed.copy()
        rest = canonical(request)[1:]
        whole.update(f"]{'' if rest == '}' else ','}{rest}".encode("utf-8", "surrogatepass"))
        return str(whole.hexdigest())

    def encoded(self, messages: Iterable[BaseMessage]) -> list[JsonObject]:
        """The messages as ``encode`` gives them; not to be changed."""
        return [self._encoded(message).data for message in messages]

    def _prompt(self, messages: Sequence[BaseMessage]) -> _Prompt:
        newest = self._newest
        if messages is newest.source and len(messages) == len(newest.messages):
            return newest
        asked = list(messages)
        # A prompt is mostly the one before and a little more; comparing by identity is cheap.
        count = len(newest.messages)
        before = newest if asked[:count] == newest.messages else _Prompt()
        added = [self._encoded(message).digest for message in asked[len(before.messages) :]]
        hashed = before.hashed.copy()
        for index, one in enumerate(added, len(before.messages)):
            hashed.update(f'{"," if index else ""}"{one}"'.encode())
        self._newest = _Prompt(messages, asked, before.digests + added, hashed)
        return self._newest

    def _encoded(self, message: BaseMessage) -> _Encoded:
        known = self._seen.get(id(message))
        if known is not None and known.message is message:
            return known
        data = encode(message)
        made = _Encoded(message, data, digest(data))
        self._seen[id(message)] = made
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


@dataclass(frozen=True)
class _Encoded:
    """A message as JSON. It is kept beside it: an id() may be used again once it is freed."""

    message: BaseMessage
    data: JsonObject
    digest: str


@dataclass(frozen=True)
class _Prompt:
    """What a model call was asked with; ``hashed`` has the beginning of its canonical text."""

    source: Sequence[BaseMessage] = ()
    messages: list[BaseMessage] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    hashed: Any = field(default_factory=lambda: sha256(b'{"messages":['))
