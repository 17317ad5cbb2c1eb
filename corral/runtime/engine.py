"""The run loop: a run is stored, executed through its door, and ended.

Streaming is the only implementation: callers who want just the result drain the stream. The
run's input and lease are on disk before the graph starts; LangGraph writes one checkpoint when
the run pauses or ends, and the journal holds everything in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph

from corral.errors import ConflictError, ControlFlow, CorralError
from corral.policies.limits import RunLimits
from corral.policies.redaction import Redactor
from corral.runtime import runs
from corral.runtime.checkpoints import DatabaseSaver
from corral.runtime.context import RunContext, current_run
from corral.runtime.database import Database
from corral.runtime.door import LiveDoor
from corral.runtime.events import Event, Events, RunFinished, RunStarted
from corral.runtime.gate import Gate, PolicyRules
from corral.runtime.journal import Journal
from corral.runtime.lease import new_lease
from corral.runtime.program import Program
from corral.runtime.records import Records
from corral.runtime.runs import Ending, NewRun, Position, RunRow
from corral.runtime.views import RunResult, Totals

log = structlog.get_logger()

Graph = CompiledStateGraph[Any, Any, Any, Any]

PARALLEL_TASKS = 8
"""Graph tasks of one run that execute at the same time."""

_RECURSION_LIMIT = 1_000_000  # the door's step limit ends a run long before


@dataclass(frozen=True)
class Terms:
    """On what terms a run is executed: limits, rules, and what is redacted."""

    limits: RunLimits
    rules: PolicyRules
    redactor: Redactor


class Engine:
    """Starts and resumes runs over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._saver = DatabaseSaver(database)

    async def start(self, program: Program, new: NewRun, terms: Terms) -> Events:
        """Store a new run and execute it. Raises ``ConflictError`` when its thread is busy."""
        graph = program.graph().compile(checkpointer=self._saver)
        base = await position(graph, new.thread)
        lease = new_lease()
        run = await self._database.write(lambda c: runs.load(c, runs.create(c, new, base, lease)))
        execution = _Execution(self._database, program, graph, run, terms, lease)
        async with aclosing(execution.stream(resumed=False)) as events:
            async for event in events:
                yield event

    async def resume(self, program: Program, run: RunRow, terms: Terms) -> Events:
        """Go on with a run that was cut off, paused, stopped or failed.

        Raises ``ConflictError`` when it is completed, is being run, or its graph has changed.
        """
        if run.graph_version != program.version:
            raise ConflictError(
                f"The run {run.id} was made by the graph {run.graph_version}, "
                f"which is {program.version} now.",
                hint="It can be looked at with `corral trace`; start a new run to go on.",
            )
        lease = new_lease()
        await self._database.write(lambda c: runs.reopen(c, run.id, lease))
        graph = program.graph().compile(checkpointer=self._saver)
        execution = _Execution(self._database, program, graph, run, terms, lease)
        async with aclosing(execution.stream(resumed=True)) as events:
            async for event in events:
                yield event


@dataclass(frozen=True)
class _Execution:
    """One execution of a run by this process, from taking the lease to giving it back."""

    database: Database
    program: Program
    graph: Graph
    run: RunRow
    terms: Terms
    lease: str

    async def stream(self, *, resumed: bool) -> Events:
        """Execute the graph in a task of its own and tell what it does, the result last."""
        run = self.run
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        journal = await Journal.load(self.database, run.id)
        yield RunStarted(run.id, run.thread, run.agent, run.model, resumed)
        task = asyncio.create_task(self._invoke(journal, events.put_nowait))
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
            ending = await asyncio.shield(self._end(task, journal))
        yield RunFinished(await self._result(ending, journal))

    async def _invoke(self, journal: Journal, emit: Callable[[Event], None]) -> None:
        gate = Gate(journal, self.database, self.terms.rules, emit)
        await gate.load()
        door = LiveDoor(journal, gate, self.terms.limits, self.terms.redactor, emit)
        run = self.run
        current_run.set(RunContext(run.id, run.thread, run.base.step, door, emit))
        config = _config(run.thread)
        snapshot = await self.graph.aget_state(config)
        mine = (snapshot.metadata or {}).get("corral_run") == run.id
        state = None if mine else self.program.initial(run.prompt, run.id)
        config["metadata"] = {"corral_run": run.id}
        await self.graph.ainvoke(state, config, durability="exit")

    async def _end(self, task: asyncio.Task[None], journal: Journal) -> Ending:
        snapshot = await self.graph.aget_state(_config(self.run.thread))
        output = self.program.output(snapshot.values)
        ending = self._ending(task, output, bool(snapshot.interrupts), journal)
        await self.database.write(lambda c: runs.end(c, self.run, ending, self.lease))
        return ending

    def _ending(
        self, task: asyncio.Task[None], output: str, interrupted: bool, journal: Journal
    ) -> Ending:
        """Decide, in this one place, what ends a run and how."""
        if task.cancelled():
            return Ending("stopped", output, "stopped by the user")
        error = task.exception()
        if error is None and interrupted:
            return Ending("paused", output, None)
        if error is None:
            try:
                self.program.check_complete(journal.spent.steps)
            except CorralError as unfinished:
                error = unfinished
        match error:
            case None:
                return Ending("completed", output, None)
            case ControlFlow():
                return Ending("stopped", output, error.message)
            case CorralError():
                return Ending("failed", output, str(error))
            case _:
                log.error("run_failed", run=self.run.id, exc_info=error)
                return Ending("failed", output, f"internal error: {type(error).__name__}: {error}")

    async def _result(self, ending: Ending, journal: Journal) -> RunResult:
        spent = journal.spent
        pending = await Records(self.database).approvals(run=self.run.id)
        return RunResult(
            run=self.run.id,
            thread=self.run.thread,
            status=ending.status,
            output=ending.output,
            usage=Totals(spent.input_tokens, spent.output_tokens, spent.cost_usd),
            steps=spent.steps,
            error=ending.error,
            approvals=tuple(pending),
        )


async def position(graph: Graph, thread: str) -> Position:
    """Where a thread stands now."""
    snapshot = await graph.aget_state(_config(thread))
    if not snapshot.metadata:
        return Position(None, -2)
    return Position(snapshot.config["configurable"]["checkpoint_id"], snapshot.metadata["step"])


def _config(thread: str) -> RunnableConfig:
    return {
        "configurable": {"thread_id": thread},
        "recursion_limit": _RECURSION_LIMIT,
        "max_concurrency": PARALLEL_TASKS,
    }
