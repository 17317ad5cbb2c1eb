"""How a thread's messages come together: LangGraph's reducer, at a price that does not grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AnyMessage, BaseMessage, RemoveMessage
from langgraph.graph.message import _messages_delta_reducer

SNAPSHOT_EVERY = 1000
"""Updates of a thread between full copies of its messages."""


class _Thread(list[AnyMessage]):
    """A thread's messages. ``ids`` has theirs, and those of threads that go on from here."""

    __slots__ = ("ids",)

    ids: set[str]

    def __copy__(self) -> _Thread:
        copied = _Thread(self)
        copied.ids = self.ids
        return copied


def add_messages(state: Any, writes: Sequence[Any]) -> Any:
    """LangGraph's reducer for a ``DeltaChannel`` of messages: appended, or replaced by id.

    It looks at all messages to know which ids are there. Here they are remembered, and what is
    certainly new is appended; anything else is LangGraph's.
    """
    added = [message for write in writes for message in _listed(write)]
    if isinstance(state, _Thread) and _are_new(added, state.ids):
        grown = _Thread(state)
        grown.extend(added)
        # Shared with the shorter thread: an id that is in there for nothing only costs time.
        grown.ids = state.ids
        return grown
    whole = _Thread(_messages_delta_reducer(state, list(writes)))
    whole.ids = {message.id for message in whole if message.id is not None}
    return whole


def _listed(write: Any) -> list[Any]:
    return write if isinstance(write, list) else [write]


def _are_new(added: list[Any], ids: set[str]) -> bool:
    """Whether all are messages with new ids, which are then among ``ids``."""
    for message in added:
        if not isinstance(message, BaseMessage) or isinstance(message, RemoveMessage):
            return False
        if message.id is None or message.id in ids:
            return False
        ids.add(message.id)
    return True
