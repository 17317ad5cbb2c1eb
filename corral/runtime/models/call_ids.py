"""Ids of tool calls that no provider has named: the same on every replay, unique in a thread."""

from __future__ import annotations

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from corral.jsontypes import Json, digest
from corral.runtime.models.contract import ModelRequest


def call_id(request: ModelRequest, index: int) -> str:
    """The id of the tool call at ``index`` in the answer to ``request``.

    ``call_<turn>_<index>_<8 hex digits>``: the digits come from the messages, so that two runs
    of one thread, whose turns both start at 0, do not collide.
    """
    told = digest([_identity(message) for message in request.messages])
    return f"call_{request.turn}_{index}_{told[:8]}"


def _identity(message: BaseMessage) -> Json:
    """What a message says, without its own id, which may differ between two executions."""
    calls: Json = None
    if isinstance(message, AIMessage):
        calls = [[call["name"], call["args"], call["id"]] for call in message.tool_calls]
    answered = message.tool_call_id if isinstance(message, ToolMessage) else None
    return [message.type, message.content, calls, answered]
