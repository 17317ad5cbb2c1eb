"""What identifies a request to a model, whoever makes it and whenever.

Everything that an answer can depend on is part of it, and nothing else: the ids of tool calls,
which differ from run to run, are replaced by their number in the conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

from corral.jsontypes import JsonObject, canonical, digest
from corral.policies.placeholders import tagged_in
from corral.runtime.caching.contract import Question
from corral.runtime.caching.settings import AnswerKind
from corral.runtime.effects import Effect
from corral.runtime.messages import encode


@dataclass
class _Read:
    """A transcript that was read so far: its digest, and how its calls are numbered."""

    messages: list[BaseMessage] = field(default_factory=list)
    hashed: Any = field(default_factory=sha256)
    numbers: dict[str, str] = field(default_factory=dict)
    private: bool = False
    after_tools: bool = False

    def add(self, message: BaseMessage) -> None:
        data = self._numbered(encode(message))
        self.hashed.update(f"{canonical(data)}\n".encode("utf-8", "surrogatepass"))
        self.private = self.private or bool(tagged_in(data))
        self.after_tools = self.after_tools or isinstance(message, ToolMessage)
        self.messages.append(message)

    def _numbered(self, data: JsonObject) -> JsonObject:
        if "tool_calls" in data:
            calls = [{**call, "id": self._number(call.get("id"))} for call in data["tool_calls"]]
            data = {**data, "tool_calls": calls}
        if "tool_call_id" in data:
            data = {**data, "tool_call_id": self._number(data["tool_call_id"])}
        return data

    def _number(self, call_id: Any) -> str:
        return self.numbers.setdefault(str(call_id), f"call {len(self.numbers) + 1}")


class Questions:
    """Reads requests. A transcript is mostly the one before and a little more, which is read."""

    def __init__(self) -> None:
        self._read = _Read()

    def of(self, effect: Effect, identity: JsonObject) -> Question | None:
        """What a model is asked; ``identity`` is what its answers depend on besides.

        ``None`` for what must not be shared: a placeholder stands for another value elsewhere.
        """
        asked = list(effect.transcript)
        if not asked:
            return None
        before = self._up_to(asked[:-1])
        request = digest([effect.request, identity])
        scope = f"{request}{before.hashed.copy().hexdigest()}"
        before.add(asked[-1])
        if before.private:
            return None
        return Question(
            key=digest([request, before.hashed.copy().hexdigest()]),
            scope=digest(scope),
            text=_plain(asked[-1]),
            kind=_kind(effect, after_tools=before.after_tools),
        )

    def _up_to(self, messages: Sequence[BaseMessage]) -> _Read:
        known = self._read.messages
        if messages[: len(known)] != known:
            self._read = _Read()
        for message in messages[len(self._read.messages) :]:
            self._read.add(message)
        return self._read


def is_deterministic(sampling: JsonObject, identity: JsonObject) -> bool:
    """Whether a model gives the same answer to the same request, as far as it can."""
    members = identity.get("members")
    if members is not None:
        return all(is_deterministic(sampling, member) for member in members)
    temperature = sampling.get("temperature")
    if temperature is None:
        temperature = identity.get("sampling", {}).get("temperature")
    return bool(temperature == 0)


def _plain(message: BaseMessage) -> str:
    is_text = isinstance(message, HumanMessage) and isinstance(message.content, str)
    return str(message.content) if is_text else ""


def _kind(effect: Effect, *, after_tools: bool) -> AnswerKind:
    if effect.request.get("purpose") == "check":
        return "checks"
    if after_tools:
        return "after_tools"
    return "structured" if "output" in effect.request else "plain"
