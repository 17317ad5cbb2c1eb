"""What the graphs of searches share: their state, how new thoughts are valued, the calls left."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import add
from typing import Annotated, Any, Generic, TypeVar

from langgraph.types import Overwrite, Send

from corral.agents.kit import Kit
from corral.agents.patterns.state import EMPTY, PatternState, gathered
from corral.agents.patterns.thoughts import (
    Proposed,
    SearchOptions,
    Task,
    Thinking,
    Thought,
    Valued,
    new_thoughts,
    shared_out,
    task_about,
)

OptionsT = TypeVar("OptionsT", bound=SearchOptions)


class SearchState(PatternState, total=False):
    """``proposed`` and ``valued`` are what the newest branches gave.

    ``calls`` counts what was asked.
    """

    proposed: Annotated[list[Proposed], gathered]
    valued: Annotated[list[Valued], gathered]
    calls: Annotated[int, add]


FRESH: dict[str, Any] = {
    "proposed": EMPTY,
    "valued": EMPTY,
    "calls": Overwrite(0),
}
"""What a search begins each run with."""


class Searching(Generic[OptionsT]):
    """The nodes that propose and value, of a graph that asks at most so often."""

    def __init__(self, kit: Kit, options: OptionsT) -> None:
        self._options = options
        self._thinking = Thinking(kit, options)
        self._limit = asyncio.Semaphore(options.parallel)

    async def propose(self, state: Task) -> SearchState:
        """The next steps after one thought."""
        async with self._limit:
            proposed = await self._thinking.propose(state)
        return {"proposed": [proposed], "calls": proposed["calls"]}

    async def value(self, state: Task) -> SearchState:
        """The value of one thought."""
        async with self._limit:
            valued = await self._thinking.value(state)
        return {"valued": [valued], "calls": valued["calls"]}

    def _to_value(self, state: SearchState, tree: Sequence[Thought]) -> list[Send]:
        """A task for each new thought, as many as there are calls left for.

        The verifier takes no model call.
        """
        options, left, messages = self._options, self._left(state), state["messages"]
        new = new_thoughts(tree, state["proposed"], options.depth)
        checked = [one for one in new if options.verifier and one["done"]]
        asked = [one for one in new if one not in checked][: max(0, left)]
        calls = shared_out(left, len(asked))
        return [
            Send("value", task_about(messages, tree, one["parent"], thought=one, calls=calls))
            for one in (*checked, *asked)
        ]

    def _left(self, state: SearchState) -> int:
        """Model calls that the search may still make; the last one is for the answer."""
        return self._options.calls - 1 - state["calls"]
