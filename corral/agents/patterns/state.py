"""What the states of patterns have in common."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.types import Overwrite

from corral.agents.reducer import SNAPSHOT_EVERY, add_messages


class PatternState(TypedDict, total=False):
    """A thread: what the user asked, and the answers."""

    messages: Annotated[
        list[AnyMessage], DeltaChannel(add_messages, snapshot_frequency=SNAPSHOT_EVERY)
    ]


def gathered(kept: list[Any], new: list[Any]) -> list[Any]:
    """The reducer of what parallel branches give: all of it, in the order of the branches.

    ``EMPTY`` empties it.
    """
    return [*kept, *new]


EMPTY: Any = Overwrite([])
"""What empties a channel that is gathered."""
