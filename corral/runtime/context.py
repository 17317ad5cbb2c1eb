"""The run that the current code belongs to, and where in its graph it is.

The door is found through a context variable: LangGraph copies the context into every task, so
a graph node, a tool's body and a sub-agent's node all reach the same door without being told.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from langgraph.config import get_config

from corral.errors import RunError, UsageError
from corral.policies.provenance.labels import UNKNOWN, Label
from corral.runtime.effects import Effect, Outcome
from corral.runtime.events import Event
from corral.runtime.messages import CallIds
from corral.runtime.runs import STEP_OF_A_NEW_THREAD

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


T = TypeVar("T")

_PUSH = "__pregel_push"  # LangGraph's mark of a task that a Send made

STEPS_TO_FIRST_NODE = 2
"""Supersteps that LangGraph counts between a thread's last one and a run's first node."""


@dataclass
class Scope:
    """One invocation of a graph: ``prefix`` is the path of the effect that it runs inside,
    ending in ``/``, and empty for a run's own graph; ``depth`` counts the graphs around it.

    ``base_step`` is the thread's superstep before the run; steps are counted from there, so
    that a path is the same when the run is replayed in a thread of its own. ``agent`` is the prefix
    of the agent's whole graph, of which this one may be a part. ``agents`` are the names of that
    agent and of those around it, the run's own first.
    """

    prefix: str = ""
    agent: str = ""
    base_step: int = STEP_OF_A_NEW_THREAD
    depth: int = 0
    agents: tuple[str, ...] = ()
    _asked: Counter[str] = field(default_factory=Counter)
    _attempts: dict[str, int] = field(default_factory=dict)

    def next_path(self) -> str:
        """The path of the next effect of the current task, see ``paths``.

        A node that is tried again asks for the same effects again: what it got, it keeps.
        """
        config = get_config()
        task = _task_path(self, config["metadata"])
        attempt = _attempt(config)
        if self._attempts.setdefault(task, attempt) != attempt:
            self._attempts[task] = attempt
            self._asked[task] = 0
        index = self._asked[task]
        self._asked[task] += 1
        return f"{task}#{index}"


current_scope: ContextVar[Scope] = ContextVar("corral_scope")
"""The graph that is executing here."""

current_label: ContextVar[Label] = ContextVar("corral_label", default=UNKNOWN)
"""The label of what the effect that is executing here was asked for with."""


class Door(Protocol):
    """What ``perform`` needs of a door: the live one here, or the closed one of a replay."""

    async def perform(self, effect: Effect, path: str) -> Outcome:
        """Make the effect asked for at ``path``, or give what the journal holds of it."""
        ...


@dataclass
class RunContext:
    """One execution of a run: its door, its listeners, its tags, and the ids of its calls.

    ``priority`` is that of all models that it asks, see ``ModelRequest``.
    """

    run: str
    thread: str
    door: Door
    emit: Callable[[Event], None]
    tags: tuple[str, ...] = ()
    priority: int = 0
    call_ids: CallIds = field(default_factory=CallIds)
    _made: dict[str, Any] = field(default_factory=dict)
    _making: dict[str, asyncio.Lock] = field(default_factory=dict)
    _at_door: set[asyncio.Task[Any]] = field(default_factory=set)
    _is_over: bool = False
    _work: asyncio.Task[Any] | None = field(default_factory=asyncio.current_task)

    async def perform(self, effect: Effect, path: str) -> Outcome:
        """See ``perform``. Raises ``RunError`` when the graph has ended."""
        if self._is_over:
            raise RunError(
                f"The {effect.kind} {effect.name} was asked for after its run had ended.",
                hint="Await every task that a node makes, before the node returns.",
            )
        if self._work is not None and self._work.cancelling():
            # Told to stop, the tasks of a node end one after the other. What one of them asks for
            # meanwhile has not come of what another has given up.
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        is_outer = task not in self._at_door
        self._at_door.add(task)
        try:
            return await self.door.perform(effect, path)
        finally:
            if is_outer:
                self._at_door.discard(task)

    async def end(self) -> None:
        """Let nobody in any more, and cancel whom a node has left behind at the door."""
        self._is_over = True
        left = self._at_door - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        self._work = None  # it keeps the context that it ran in, and so this, alive

    async def once(self, name: str, make: Callable[[], Awaitable[T]]) -> T:
        """What ``make`` gives, made by the first who asks in the current agent's graph."""
        key = once_path(name)
        if key in self._made:
            known: T = self._made[key]
            return known
        async with self._making.setdefault(key, asyncio.Lock()):
            if key not in self._made:
                self._made[key] = await make()
        made: T = self._made[key]
        return made


current_run: ContextVar[RunContext] = ContextVar("corral_run")
"""The run that is executing here."""


@contextmanager
def inside(path: str, *, agent: str | None = None) -> Iterator[None]:
    """Graphs that are invoked in the body run inside of the effect at ``path``.

    ``agent`` is the name of the other agent whose they are; ``None``: of the one around.
    """
    outer, prefix = current_scope.get(), f"{path}/"
    whole, agents = outer.agent, outer.agents
    if agent is not None:
        whole, agents = prefix, (*agents, agent)
    inner = Scope(prefix, whole, depth=outer.depth + 1, agents=agents)
    token = current_scope.set(inner)
    try:
        yield
    finally:
        current_scope.reset(token)


@contextmanager
def asked_with(label: Label) -> Iterator[None]:
    """What happens in the body was asked for with contents of this label."""
    token = current_label.set(label)
    try:
        yield
    finally:
        current_label.reset(token)


async def perform(effect: Effect) -> Outcome:
    """Make an effect of the current run, or get from the journal what it gave.

    This is the one way out of a graph. Raises what the effect raised, ``LimitReached``, or
    LangGraph's interrupt when a human must be asked first.
    """
    return (await placed(effect))[1]


async def placed(effect: Effect) -> tuple[str, Outcome]:
    """``perform``, with the path at which the effect is made."""
    try:
        context = current_run.get()
    except LookupError:
        raise UsageError(
            f"The effect {effect.name!r} was asked for outside of a run.",
            hint="Run the graph with Corral.run or Corral.stream.",
        ) from None
    path = current_scope.get().next_path() if effect.once is None else once_path(effect.once)
    return path, await context.perform(effect, path)


def once_path(name: str) -> str:
    """The path of an effect that the current agent makes once."""
    return f"{current_scope.get().agent}{name}"


def _task_path(scope: Scope, metadata: dict[str, Any]) -> str:
    if _depth(metadata["langgraph_checkpoint_ns"]) != scope.depth + 1:
        raise UsageError(
            f"The node {metadata['langgraph_node']!r} belongs to a graph that another one's node "
            "invoked directly, so its effects could not be told apart.",
            hint="Invoke it with `await corral.subgraph(graph, state)`.",
        )
    step = metadata["langgraph_step"] - scope.base_step - STEPS_TO_FIRST_NODE
    where = metadata["langgraph_path"]
    send = f"[{where[1]}]" if where[0] == _PUSH else ""
    return f"{scope.prefix}{step}.{metadata['langgraph_node']}{send}"


def _depth(namespace: str) -> int:
    """How many graphs are around a task: LangGraph joins their tasks with ``|``."""
    if "|" not in namespace:
        return 1
    return sum(not part.isdigit() for part in namespace.split("|"))


def _attempt(config: RunnableConfig) -> int:
    runtime = config["configurable"].get("__pregel_runtime")
    info = getattr(runtime, "execution_info", None)
    return info.node_attempt if info is not None else 1
