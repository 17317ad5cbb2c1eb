"""Personal data that a hosted model is not shown: it gets stand-ins, and its answer the values.

    mail [withheld:email#1] that …   what the model reads and writes
    mail ann@example.org that …      what everybody else has

Stand-ins are numbered as their values first come by in a prompt. A prompt is the one before and a
little more, so that a value keeps its number and the provider's cache its use.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from itertools import count
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage

from corral.jsontypes import Json
from corral.policies.detectors.personal import Personal
from corral.policies.detectors.spans import merged
from corral.policies.texts import changed, texts_of
from corral.runtime.models.contract import Chunk, FinalChunk, ModelRequest, TextChunk
from corral.runtime.models.hosted import HostedModel

_STAND_IN = re.compile(r"\[withheld:[a-z-]{2,12}#[0-9]{1,6}\]")
_BEGINNING = re.compile(r"\[[a-z:#0-9-]{0,29}\Z")
"""The end of a piece of text that may be the beginning of a stand-in."""


class Withholding:
    """A hosted model that is not shown some kinds of personal data. A ``ChatModel``."""

    def __init__(self, model: HostedModel, personal: Personal) -> None:
        self._model = model
        self._personal = personal

    @property
    def name(self) -> str:
        """See ``ChatModel.name``."""
        return self._model.name

    @property
    def context_window(self) -> int:
        """See ``ChatModel.context_window``."""
        return self._model.context_window

    @property
    def price(self) -> Any:
        """See ``Priced.price``."""
        return self._model.price

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """See ``ChatModel.stream``."""
        standing = StandIns(self._personal, request.messages)
        hidden = replace(request, messages=[_with(m, standing.hide) for m in request.messages])
        held = ""
        async with aclosing(cast("Any", self._model.stream(hidden))) as chunks:
            async for chunk in chunks:
                match chunk:
                    case TextChunk(text):
                        held += text
                        ready, held = _complete(held)
                        if ready:
                            yield TextChunk(standing.show(ready))
                    case FinalChunk():
                        if held:
                            yield TextChunk(standing.show(held))
                        message = cast("AIMessage", _with(chunk.message, standing.show))
                        yield replace(chunk, message=message)

    def check_complete(self, turns: int) -> None:
        """See ``ChatModel.check_complete``."""
        self._model.check_complete(turns)

    async def aclose(self) -> None:
        """See ``ChatModel.aclose``."""
        await self._model.aclose()


class StandIns:
    """What stands for which value in one prompt and its answer."""

    def __init__(self, personal: Personal, messages: Any) -> None:
        self._personal = personal
        self._by_value: dict[str, str] = {}
        self._values: dict[str, str] = {}
        # What looks like a stand-in already is left to be what it is.
        self._taken = {
            found
            for message in messages
            for text in texts_of(_parts(message))
            for found in _STAND_IN.findall(text)
        }
        self._numbers = count(1)

    def hide(self, text: str) -> str:
        """The text with stand-ins."""
        spans = list(merged(list(self._personal.find(text))))
        pieces, at = [], 0
        for span in spans:
            pieces += [text[at : span.start], self._for(text[span.start : span.end], span.kind)]
            at = span.end
        return "".join([*pieces, text[at:]])

    def show(self, text: str) -> str:
        """The text with the values."""
        return _STAND_IN.sub(lambda match: self._values.get(match[0], match[0]), text)

    def _for(self, value: str, kind: str) -> str:
        if value not in self._by_value:
            names = (f"[withheld:{kind}#{number}]" for number in self._numbers)
            name = next(name for name in names if name not in self._taken)
            self._by_value[value] = name
            self._values[name] = value
        return self._by_value[value]


def _complete(text: str) -> tuple[str, str]:
    """What can be shown of a text that is not over, and what must wait for the rest."""
    beginning = _BEGINNING.search(text)
    return (text[: beginning.start()], beginning[0]) if beginning else (text, "")


def _parts(message: BaseMessage) -> Any:
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return [message.content, [call["args"] for call in calls]]


def _with(message: BaseMessage, change: Callable[[str], str]) -> BaseMessage:
    """A message with its content and the arguments of its calls changed."""

    def in_texts(item: Any, _name: str) -> Json:
        return change(item) if isinstance(item, str) else cast("Json", item)

    update: dict[str, Any] = {"content": changed(cast("Json", message.content), in_texts)}
    if isinstance(message, AIMessage) and message.tool_calls:
        update["tool_calls"] = [
            {**call, "args": changed(call["args"], in_texts)} for call in message.tool_calls
        ]
    return message.model_copy(update=update)
