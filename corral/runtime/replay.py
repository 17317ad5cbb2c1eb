"""Replay: the same graph against its journal, with the way out closed.

Nothing is executed: no socket, no model, no server is opened, because an effect's ``execute`` is
never called (``offline`` makes sure). The graph must ask for what the journal holds, or the first
difference is named.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from corral.errors import CorralError
from corral.runtime.attachments import ATTACHMENTS, attached
from corral.runtime.checkpoints import DatabaseSaver, strict_serializer
from corral.runtime.closed_door import ClosedDoor, Progress
from corral.runtime.context import RunContext, Scope, current_run, current_scope
from corral.runtime.database import Database
from corral.runtime.journal import Journal
from corral.runtime.langsmith_off import untraced
from corral.runtime.offline import OfflineLoop, offline
from corral.runtime.origin import require_content
from corral.runtime.paths import in_words
from corral.runtime.program import Program, State, with_before
from corral.runtime.runs import STEP_OF_A_NEW_THREAD, RunRow
from corral.runtime.turns import Turns
from corral.runtime.views import ReplayReport

_THREAD: RunnableConfig = {"configurable": {"thread_id": "replay"}, "recursion_limit": 1_000_000}


async def replay(
    database: Database, program: Program, run: RunRow, progress: Progress | None = None
) -> ReplayReport:
    """Run the graph of ``run`` against its journal and compare.

    ``program`` is built from the stored agent; what it would execute with is never touched.
    """
    require_content(run.id, run.origin)
    journal = await Journal.load(database, run.id)
    base = await base_state(database, program, run)
    return await offline(lambda loop: _compare(program, run, journal, base, loop, progress))


async def replay_past(
    database: Database, program: Program, run: RunRow, journal: Journal
) -> ReplayReport:
    """``replay`` of a part of a run: of the entries that ``journal`` holds."""
    unfinished = replace(run, status="running")
    base = await base_state(database, program, run)
    return await offline(lambda loop: _compare(program, unfinished, journal, base, loop))


async def _compare(
    program: Program,
    run: RunRow,
    journal: Journal,
    base: State,
    loop: OfflineLoop,
    progress: Progress | None = None,
) -> ReplayReport:
    journal.is_over = run.status == "completed"
    door = ClosedDoor(journal, Turns(journal, loop), progress)
    task = asyncio.create_task(_invoke(program, run, door, base))
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()
    problem = door.divergence or _failure(task, run) or _rest(task, door, program, run)
    entries = journal.entries()
    reused = len(entries) - len(door.missed()) if problem is None else len(door.recalled)
    return ReplayReport(
        run=run.id,
        status="identical" if problem is None else "diverged",
        effects=len(entries),
        reused=reused,
        divergence=problem,
    )


async def base_state(database: Database, program: Program, run: RunRow) -> State:
    """The thread as it was before the run."""
    if run.base.checkpoint is None:
        return {}
    graph = program.graph().compile(checkpointer=DatabaseSaver(database))
    where: RunnableConfig = {
        "configurable": {"thread_id": run.thread, "checkpoint_id": run.base.checkpoint}
    }
    return dict((await graph.aget_state(where)).values)


async def _invoke(program: Program, run: RunRow, door: ClosedDoor, base: State) -> State:
    saver = InMemorySaver(serde=strict_serializer())
    graph = program.graph().compile(checkpointer=saver)
    step = STEP_OF_A_NEW_THREAD
    if base:
        await graph.aupdate_state(_THREAD, base)
        metadata = (await graph.aget_state(_THREAD)).metadata
        step = metadata["step"] if metadata else step
    current_run.set(RunContext(run.id, run.thread, door, lambda _event: None))
    current_scope.set(Scope(base_step=step))
    files = await attached(door.holds(ATTACHMENTS), run.id)
    await program.prepare()
    state: Any = with_before(program.initial(await program.admit(run.prompt), run.id), files)
    with untraced():
        await graph.ainvoke(state, _THREAD, durability="exit")
    return dict((await graph.aget_state(_THREAD)).values)


def _failure(task: asyncio.Task[State], run: RunRow) -> str | None:
    """A replay may fail only as the run itself did."""
    error = task.exception()
    if error is None or (isinstance(error, CorralError) and run.status != "completed"):
        return None
    return f"The replayed graph failed: {type(error).__name__}: {error}"


def _rest(task: asyncio.Task[State], door: ClosedDoor, program: Program, run: RunRow) -> str | None:
    """What was recorded and not asked for, or another answer at the end."""
    missed = door.missed()
    if missed:
        first = missed[0]
        return (
            f"The graph ended without asking for effect {first.seq} ({first.kind} {first.name}) "
            f"at {in_words(first.path)} ({first.path}), which the journal holds."
        )
    output = "" if task.exception() else program.output(task.result())
    if run.status == "completed" and output != run.output:
        return f"The answer is {output!r} now and was {run.output!r}."
    return None
