"""The run that the current code belongs to, and where in its graph it is.

The door is found through a context variable: LangGraph copies the context into every task, so
a graph node, a tool's body and a sub-agent's node all reach the same door without being told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langgraph.config import get_config

from corral.errors import UsageError
from corral.runtime.effects import Effect, Outcome
from corral.runtime.events import Event

if TYPE_CHECKING:
    from corral.runtime.door import Door

_PUSH = "__pregel_push"  # LangGraph's mark of a task that a Send made

STEPS_TO_FIRST_NODE = 2
"""Supersteps that LangGraph counts between a thread's last one and a run's first node."""


@dataclass
class RunContext:
    """One execution of a run: its door, its listeners and its place in the thread.

    ``base_step`` is the thread's superstep before the run; steps are counted from there, so
    that a path is the same when the run is replayed in a thread of its own. ``memo`` keeps what
    an effect that is made once in a run has given.
    """

    run: str
    thread: str
    base_step: int
    door: Door
    emit: Callable[[Event], None]
    memo: dict[str, Any] = field(default_factory=dict)
    _asked: Counter[str] = field(default_factory=Counter)

    def next_path(self, prefix: str) -> str:
        """The path of the next effect of the current task: ``STEP.NODE[SEND]#INDEX``."""
        metadata = get_config()["metadata"]
        step = metadata["langgraph_step"] - self.base_step - STEPS_TO_FIRST_NODE
        where = metadata["langgraph_path"]
        send = f"[{where[1]}]" if where[0] == _PUSH else ""
        task = f"{prefix}{step}.{metadata['langgraph_node']}{send}"
        index = self._asked[task]
        self._asked[task] += 1
        return f"{task}#{index}"


current_run: ContextVar[RunContext] = ContextVar("corral_run")
"""The run that is executing here."""

current_prefix: ContextVar[str] = ContextVar("corral_prefix", default="")
"""The path of the effect that this code runs inside, ending in ``/``; empty in the outer graph."""


async def perform(effect: Effect) -> Outcome:
    """Make an effect of the current run, or get from the journal what it gave.

    This is the one way out of a graph. Raises what the effect raised, ``LimitReached``, or
    LangGraph's interrupt when a human must be asked first.
    """
    try:
        context = current_run.get()
    except LookupError:
        raise UsageError(
            f"The effect {effect.name!r} was asked for outside of a run.",
            hint="Run the graph with Corral.run or Corral.stream.",
        ) from None
    path = effect.once or context.next_path(current_prefix.get())
    return await context.door.perform(effect, path)
