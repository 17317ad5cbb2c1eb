"""A thread's state as lines of an export, and as a checkpoint again.

A state is data: JSON, and lists of chat messages. The checkpoint that is made of it holds plain
values, which every kind of LangGraph's channels takes for its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import Checkpoint
from langgraph.checkpoint.base.id import uuid6

from corral.errors import UsageError
from corral.jsontypes import JsonObject
from corral.runtime.checkpoints import strict_serializer
from corral.runtime.export import forms
from corral.runtime.messages import decode, encode


def state_lines(state: Mapping[str, Any]) -> Iterator[JsonObject]:
    """The lines of a state. Raises ``UsageError`` for a value that is no data."""
    for channel, value in sorted(state.items()):
        if _are_messages(value):
            for message in value:
                body = _plain(channel, encode(message))
                yield {
                    "type": "message",
                    "channel": channel,
                    "id": message.id,
                    "message": body,
                }
        else:
            yield {"type": "state", "channel": channel, "value": _plain(channel, value)}


def _are_messages(value: Any) -> bool:
    is_list = isinstance(value, list) and bool(value)
    return is_list and all(isinstance(one, BaseMessage) for one in value)


def _plain(channel: str, value: Any) -> Any:
    """The value, if JSON gives it back as it is."""
    try:
        same = json.loads(json.dumps(value)) == value
    except (TypeError, ValueError, RecursionError):
        same = False
    if not same:
        raise UsageError(
            f"The thread's state holds a {type(value).__name__} in {channel!r}, which is no JSON.",
            hint="Keep JSON and chat messages in the state of a graph, or export with --html.",
        )
    return value


def checkpoint_of(thread: str, lines: Sequence[forms.State | forms.Message]) -> JsonObject:
    """The row of a checkpoint that holds a state. Raises ``ValueError`` for what is no state."""
    values: dict[str, Any] = {}
    messages: dict[str, list[BaseMessage]] = {}
    for line in lines:
        if line.channel in values or (isinstance(line, forms.State) and line.channel in messages):
            raise ValueError(f"{line.channel!r} stands twice")
        if isinstance(line, forms.State):
            values[line.channel] = line.value
        else:
            message = decode(line.message, id=line.id)
            messages.setdefault(line.channel, []).append(message)
    values |= messages
    checkpoint: Checkpoint = {
        "v": 4,
        "id": str(uuid6(clock_seq=forms.BASE_STEP)),
        "ts": datetime.now(UTC).isoformat(),
        "channel_values": values,
        "channel_versions": dict.fromkeys(values, 1),
        "versions_seen": {},
        "updated_channels": sorted(values),
    }
    kind, data = strict_serializer().dumps_typed(checkpoint)
    return {
        "thread_id": thread,
        "ns": "",
        "id": checkpoint["id"],
        "parent_id": None,
        "type": kind,
        "data": data,
        "metadata": json.dumps({"source": "update", "step": forms.BASE_STEP, "parents": {}}),
    }
