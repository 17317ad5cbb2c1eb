"""Personal data that a hosted model is not shown: it gets stand-ins, and its answer the values.

    mail [withheld:email#1] that …   what the model reads and writes
    mail ann@example.org that …      what everybody else has

Stand-ins are numbered as their values first come by in a prompt. A prompt is the one before and a
little more, so that a value keeps its number and the provider's cache its use.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from itertools import count
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage

from corral.jsontypes import Json, JsonObject
from corral.policies.detectors.personal import Personal
from corral.policies.detectors.spans import merged
from corral.policies.texts import changed, texts_of
from corral.runtime.models.contract import (
    ChoiceOutput,
    Chunk,
    FinalChunk,
    JsonOutput,
    ModelRequest,
    Output,
    ReasoningChunk,
    TextChunk,
    ToolCallChunk,
)
from corral.runtime.models.hosted.dialects.messages import REASONING_FIELDS
from corral.runtime.models.hosted.model import HostedModel

_STAND_IN = re.compile(r"\[withheld:[a-z-]{2,12}#[0-9]{1,6}\]")
_BEGINNING = re.compile(r"\[[a-z:#0-9-]{0,29}\Z")
"""The end of a piece of text that may be the beginning of a stand-in."""


_OPAQUE = frozenset({"signature", "encrypted_content", "data", "base64", "id", "type"})
"""Members of content blocks that are nothing that anybody wrote."""


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
    def takes_images(self) -> bool:
        """See ``Sighted.takes_images``."""
        return self._model.takes_images

    @property
    def price(self) -> Any:
        """See ``Priced.price``."""
        return self._model.price

    @property
    def identity(self) -> JsonObject | None:
        """See ``Identified.identity``: what is withheld is not in its answers."""
        inner = self._model.identity
        return inner and {**inner, "withheld": sorted(self._personal.kinds)}

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """See ``ChatModel.stream``."""
        standing = StandIns(self._personal, request.messages)
        messages = [_with(message, standing.hide) for message in request.messages]
        output = _hidden_output(request.output, standing.hide)
        pieces = _Pieces(standing)
        answer = self._model.stream(replace(request, messages=messages, output=output))
        async with aclosing(cast("Any", answer)) as chunks:
            async for chunk in chunks:
                for shown in pieces.shown(chunk):
                    yield shown

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

    def show_quoted(self, text: str) -> str:
        """The same for a piece of JSON, where the values stand in strings."""
        shown = {name: json.dumps(value)[1:-1] for name, value in self._values.items()}
        return _STAND_IN.sub(lambda match: shown.get(match[0], match[0]), text)

    def _for(self, value: str, kind: str) -> str:
        if value not in self._by_value:
            names = (f"[withheld:{kind}#{number}]" for number in self._numbers)
            name = next(name for name in names if name not in self._taken)
            self._by_value[value] = name
            self._values[name] = value
        return self._by_value[value]


class _Pieces:
    """An answer in pieces, of which only whole stand-ins become values."""

    def __init__(self, standing: StandIns) -> None:
        self._standing = standing
        self._text = ""
        self._reasoning = ""
        self._args: dict[int, str] = {}

    def shown(self, chunk: Chunk) -> Iterator[Chunk]:
        """What can be shown now that ``chunk`` is there."""
        show = self._standing.show
        match chunk:
            case TextChunk(text):
                yield from self._rest_of_reasoning()
                ready, self._text = _complete(self._text + text)
                yield from [TextChunk(show(ready))] if ready else []
            case ReasoningChunk(text):
                ready, self._reasoning = _complete(self._reasoning + text)
                yield from [ReasoningChunk(show(ready))] if ready else []
            case ToolCallChunk(index, name, args):
                ready, self._args[index] = _complete(self._args.get(index, "") + args)
                if name or ready:
                    yield ToolCallChunk(index, name, self._standing.show_quoted(ready))
            case FinalChunk():
                yield from self._rest()
                # The tokens of a stand-in say nothing about the value.
                message = cast("AIMessage", _with(chunk.message, show))
                yield replace(chunk, message=message, logprobs=())
            case _:
                yield chunk

    def _rest(self) -> Iterator[Chunk]:
        yield from self._rest_of_reasoning()
        if self._text:
            yield TextChunk(self._text)
        for index, args in self._args.items():
            if args:
                yield ToolCallChunk(index, args=args)

    def _rest_of_reasoning(self) -> Iterator[Chunk]:
        held, self._reasoning = self._reasoning, ""
        if held:
            yield ReasoningChunk(held)


def _hidden_output(output: Output | None, hide: Callable[[str], str]) -> Output | None:
    """The shape of an answer without personal data in it."""
    match output:
        case ChoiceOutput(choices):
            return ChoiceOutput(tuple(map(hide, choices)))
        case JsonOutput(schema):
            hidden = changed(schema, lambda item, _: hide(item) if isinstance(item, str) else item)
            return replace(output, schema=cast("JsonObject", hidden))
        case None:
            return None


def _complete(text: str) -> tuple[str, str]:
    """What can be shown of a text that is not over, and what must wait for the rest."""
    beginning = _BEGINNING.search(text)
    return (text[: beginning.start()], beginning[0]) if beginning else (text, "")


def _parts(message: BaseMessage) -> Any:
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return [message.content, [call["args"] for call in calls]]


def _with(message: BaseMessage, change: Callable[[str], str]) -> BaseMessage:
    """A message with its content, its thoughts and the arguments of its calls changed.

    What only its provider can read (signatures, encrypted reasoning, images) is left as it is.
    """

    def in_texts(item: Any, name: str) -> Json:
        is_plain = isinstance(item, str) and name not in _OPAQUE
        return change(item) if is_plain else cast("Json", item)

    update: dict[str, Any] = {"content": changed(cast("Json", message.content), in_texts)}
    extra = message.additional_kwargs
    if thoughts := {name: extra[name] for name in REASONING_FIELDS if name in extra}:
        told = cast("JsonObject", changed(cast("Json", thoughts), in_texts))
        update["additional_kwargs"] = {**extra, **told}
    if isinstance(message, AIMessage) and message.tool_calls:
        update["tool_calls"] = [
            {**call, "args": changed(call["args"], in_texts)} for call in message.tool_calls
        ]
    return message.model_copy(update=update)
