"""The history as a provider accepts it.

Names of tools get their aliases, and what one provider wants back of its own reasoning is sent to
no other: signed thoughts to Anthropic, encrypted ones to OpenAI's Responses, plain ones to the
server that told them, and there only for the turn that is under way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from corral.runtime.models.hosted.dialects.call import Target
from corral.runtime.models.hosted.dialects.media import attached, with_results
from corral.runtime.models.hosted.names import alias

REASONING_FIELDS = ("reasoning_content", "reasoning")
"""What OpenAI-shaped servers call a model's thoughts, in an answer and in the history."""

_THOUGHTS = {"thinking": "messages", "redacted_thinking": "messages", "reasoning": "responses"}
"""Content blocks that hold reasoning, and the protocol that takes them back."""


def messages_for(messages: Sequence[BaseMessage], target: Target) -> list[BaseMessage]:
    """The history for one protocol. Raises ``ModelError`` for a content that it cannot have.

    Tool names include those that a model made up: a provider rejects them when they come back.
    """
    last = max((i for i, one in enumerate(messages) if isinstance(one, HumanMessage)), default=0)
    shown = with_results(messages, target)
    return [_message(message, target, index > last) for index, message in enumerate(shown)]


def _message(message: BaseMessage, target: Target, under_way: bool) -> BaseMessage:
    if not isinstance(message, AIMessage):
        return attached(message, target)
    calls = [{**call, "name": alias(call["name"])} for call in message.tool_calls]
    extra = message.additional_kwargs
    if not (under_way and target.api == "chat"):
        extra = {key: value for key, value in extra.items() if key not in REASONING_FIELDS}
    content = message.content
    if isinstance(content, list) and target.api != "foreign":
        content = [block for block in content if _is_for(block, target)]
        if target.api == "chat":
            content = str(message.text)
    update = {"tool_calls": calls, "content": content, "additional_kwargs": extra}
    return message.model_copy(update=update)


def _is_for(block: str | Mapping[str, Any], target: Target) -> bool:
    """Whether a block of an answer may go back to this protocol."""
    if isinstance(block, str):
        return True
    kind = str(block.get("type"))
    if kind == "thinking" and not block.get("signature"):
        return False
    return _THOUGHTS.get(kind, target.api) == target.api
