"""Repair a history so that every hosted provider accepts it.

A thread that was interrupted can hold tool calls without results, results without calls, or a
result that no longer follows its call; OpenAI and Anthropic reject each of these.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from corral.memory.labelled import labelled
from corral.policies.provenance.labels import PUBLIC

NOT_EXECUTED = (
    "not executed, or cut off so that nobody knows: the run ended before this call had a result"
)
"""What the model reads in place of the result of a call that has none."""


def repair(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The same history, well formed. Does not change its input; repairing twice changes nothing.

    Each tool call is followed at once by its result; one without a result gets a synthetic error
    that says it was not executed. Results of no call, second results, unparsable calls and
    assistant messages that hold nothing are dropped.
    """
    answers = _answers(messages)
    repaired: list[BaseMessage] = []
    for index, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            continue
        if not isinstance(message, AIMessage):
            repaired.append(message)
            continue
        clean = _without_invalid(message)
        if not clean.tool_calls and not clean.content:
            continue
        repaired.append(clean)
        repaired += _results(clean, answers.get(index, {}))
    return repaired


def _answers(messages: Sequence[BaseMessage]) -> dict[int, dict[str, ToolMessage]]:
    """For each assistant message's index, the first result of each of its calls."""
    answers: dict[int, dict[str, ToolMessage]] = {}
    waiting: dict[str, int] = {}
    for index, message in enumerate(messages):
        if isinstance(message, AIMessage):
            waiting |= {call["id"]: index for call in message.tool_calls if call["id"]}
        elif isinstance(message, ToolMessage) and message.tool_call_id in waiting:
            asker = waiting.pop(message.tool_call_id)
            answers.setdefault(asker, {})[message.tool_call_id] = message
    return answers


def _results(message: AIMessage, answers: dict[str, ToolMessage]) -> list[ToolMessage]:
    return [
        answers.get(call["id"])
        or labelled(
            ToolMessage(NOT_EXECUTED, tool_call_id=call["id"], name=call["name"], status="error"),
            PUBLIC,
        )
        for call in message.tool_calls
        if call["id"]
    ]


def _without_invalid(message: AIMessage) -> AIMessage:
    """Drop calls that did not parse: providers would send them out and expect a result."""
    if not message.invalid_tool_calls:
        return message
    invalid = {call["id"] for call in message.invalid_tool_calls}
    content = message.content
    if not isinstance(content, str):
        content = [
            block
            for block in content
            if isinstance(block, str) or block.get("id") not in invalid or "id" not in block
        ]
    extra = {k: v for k, v in message.additional_kwargs.items() if k != "tool_calls"}
    update = {"invalid_tool_calls": [], "content": content, "additional_kwargs": extra}
    return message.model_copy(update=update)
