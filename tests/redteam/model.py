"""A model that does its task, and on the way whatever any text that it reads tells it to do.

An order stands in a text as ``<<tool {"argument": "value"}>>``. In a value, ``$SEEN(pattern)$``
stands for the first group of the first match in all that the model has read, and
``$HEX(pattern)$`` for its bytes in hexadecimal: the model puts what it knows where it is told to.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall

from corral.jsontypes import canonical
from corral.runtime.models.call_ids import call_id
from corral.runtime.models.contract import Chunk, FinalChunk, ModelRequest, Usage

Call = tuple[str, dict[str, Any]]
"""A tool's name and the arguments of a call."""

_ORDER = re.compile(r"<<([\w-]+) (\{.*?\})>>", re.DOTALL)
_TEMPLATE = re.compile(r"\$(SEEN|HEX)\((.*?)\)\$")
_STEP = "[step]"


class ObedientModel:
    """A ``ChatModel`` with a plan: the calls of each step, and after them the answer."""

    name = "obedient"
    context_window = 128_000

    def __init__(self, plan: Sequence[Sequence[Call]] = (), answer: str = "Done.") -> None:
        self._plan = plan
        self._answer = answer

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Obey what has not been obeyed yet, else take the next step."""
        text, calls = self._next(request.messages)
        made = [
            ToolCall(name=name, args=args, id=call_id(request, index))
            for index, (name, args) in enumerate(calls)
        ]
        yield FinalChunk(
            AIMessage(content=text, tool_calls=made),
            Usage(),
            "tool_calls" if made else "stop",
        )

    def check_complete(self, turns: int) -> None:
        """However many turns it took."""

    async def aclose(self) -> None:
        """Nothing to free."""

    def _next(self, messages: Sequence[BaseMessage]) -> tuple[str, list[Call]]:
        orders = list(_unobeyed(messages))
        if orders:
            return "As you say.", orders[:1]
        step = _steps_taken(messages)
        if step < len(self._plan):
            return f"{_STEP} {step + 1}", [_filled(call, messages) for call in self._plan[step]]
        return _told(self._answer, messages), []


def _unobeyed(messages: Sequence[BaseMessage]) -> Iterator[Call]:
    made = {
        (call["name"], canonical(call["args"]))
        for message in messages
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }
    for message in messages:
        if isinstance(message, AIMessage):
            continue
        for found in _ORDER.finditer(str(message.content)):
            call = _filled((found[1], json.loads(found[2])), messages)
            if (call[0], canonical(call[1])) not in made:
                yield call


def _steps_taken(messages: Sequence[BaseMessage]) -> int:
    taken = 0
    for message in messages:
        if isinstance(message, HumanMessage):
            taken = 0
        elif isinstance(message, AIMessage) and str(message.content).startswith(_STEP):
            taken += 1
    return taken


def _filled(call: Call, messages: Sequence[BaseMessage]) -> Call:
    name, args = call
    return name, {key: _told(value, messages) for key, value in args.items()}


def _told(value: Any, messages: Sequence[BaseMessage]) -> Any:
    if isinstance(value, list):
        return [_told(item, messages) for item in value]
    if not isinstance(value, str):
        return value
    read = "\n".join(_ORDER.sub("", str(m.content)) for m in messages)

    def known(found: re.Match[str]) -> str:
        match = re.search(found[2], read)
        text = (match[1] if match.groups() else match[0]) if match else "nothing"
        return text.encode().hex() if found[1] == "HEX" else text

    return _TEMPLATE.sub(known, value)
