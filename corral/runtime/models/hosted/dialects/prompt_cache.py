"""Anthropic's cache of prompts: a prompt is kept up to a *breakpoint*, of which it takes four.

One stands after the tools and the system message, which every request of an agent begins with.
In a conversation one moves along at its end, and one stays where the last request ended: the
provider looks for a kept beginning only some twenty blocks back, which one turn with many
calls may exceed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from corral.jsontypes import JsonObject

_BREAKPOINT: JsonObject = {"cache_control": {"type": "ephemeral"}}


def mark_tools(tools: list[JsonObject] | None) -> None:
    """Put a breakpoint after the last tool, for a prompt without a system message."""
    if tools:
        tools[-1] |= _BREAKPOINT


def mark_messages(messages: Sequence[BaseMessage], *, goes_on: bool) -> list[BaseMessage]:
    """The messages with breakpoints; at their end only in a conversation that ``goes_on``."""
    marked = list(messages)
    places = [index for index, one in enumerate(messages) if one.type == "system"][:1]
    if goes_on and len(messages) > len(places):
        places.append(len(messages) - 1)
        answers = [i for i, one in enumerate(messages) if isinstance(one, AIMessage)]
        if answers and answers[-1] > 0:
            places.append(answers[-1] - 1)
    for index in set(places):
        marked[index] = _marked(messages[index])
    return marked


def _marked(message: BaseMessage) -> BaseMessage:
    if isinstance(message, AIMessage):
        return message
    content: list[Any] = (
        [{"type": "text", "text": message.content}]
        if isinstance(message.content, str)
        else list(message.content)
    )
    if not content or content[-1] == {"type": "text", "text": ""}:
        return message
    last = content[-1] if isinstance(content[-1], dict) else {"type": "text", "text": content[-1]}
    return message.model_copy(update={"content": [*content[:-1], {**last, **_BREAKPOINT}]})
