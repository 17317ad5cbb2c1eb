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
from langgraph.types import interrupt

from corral.errors import CorralError, DivergenceError
from corral.jsontypes import digest
from corral.runtime.checkpoints import DatabaseSaver, strict_serializer
from corral.runtime.context import RunContext, Scope, current_run, current_scope, inside
from corral.runtime.database import Database
from corral.runtime.divergence import describe
from corral.runtime.effects import Attempt, Effect, Outcome
from corral.runtime.entries import Entry
from corral.runtime.journal import Journal
from corral.runtime.offline import OfflineLoop, offline
from corral.runtime.paths import in_words
from corral.runtime.program import Program, State
from corral.runtime.recall import Recall
from corral.runtime.runs import STEP_OF_A_NEW_THREAD, RunRow
from corral.runtime.views import ReplayReport

_THREAD: RunnableConfig = {"configurable": {"thread_id": "replay"}, "recursion_limit": 1_000_000}


class ClosedDoor:
    """A door that only recalls. It remembers what was asked for and the first difference."""

    def __init__(self, journal: Journal, recall: Recall, *, complete: bool) -> None:
        self._journal = journal
        self._recall = recall
        self._complete = complete
        self.recalled: set[str] = set()
        self.divergence: str | None = None

    async def perform(self, effect: Effect, path: str) -> Outcome:
        """What the journal holds for ``path``; an effect that is pure is made again.

        A run that did not complete ends where its journal ends: the task that asks for more
        waits there, as for a human, so that its siblings are replayed too.
        """
        entry = self._journal.find(path)
        if effect.pure and self._journal.holds_inside(path):
            return await self._again(effect, path, entry)
        if entry is None:
            return self._beyond(effect, path)
        self._check(effect, entry)
        if entry.status in ("started", "waiting"):
            return self._beyond(effect, path)
        self.recalled.add(path)
        if not self._complete and not self._journal.is_settled(entry):
            return self._beyond(effect, path)
        return await self._recall.answer(entry)

    def _check(self, effect: Effect, entry: Entry) -> None:
        if not self._journal.matches(entry, effect, self._journal.identify(effect)):
            raise self._diverged(describe(entry, effect, self._journal))

    async def _again(self, effect: Effect, path: str, entry: Entry | None) -> Outcome:
        """Run the graph inside of an effect, whose own effects are recalled in turn."""
        if entry is not None:
            self._check(effect, entry)
            self.recalled.add(path)
        with inside(path):
            outcome = await effect.execute(Attempt(path, path, 0))
        if entry is None:
            return outcome
        if entry.status == "finished" and digest(outcome.value) != digest(entry.result):
            raise self._diverged(
                f"At {in_words(path)} ({path}) {entry.name} gives {outcome.value} "
                f"now and gave {entry.result}."
            )
        return await self._recall.answer(entry)

    def _beyond(self, effect: Effect, path: str) -> Outcome:
        if self._complete:
            raise self._diverged(
                f"At {in_words(path)} ({path}) the graph asks for a {effect.kind} effect "
                f"({effect.name}) that the journal does not hold."
            )
        interrupt({"end_of_journal": path})
        raise AssertionError("an interrupt of a replay is never resumed")

    def _diverged(self, text: str) -> DivergenceError:
        self.divergence = self.divergence or text
        return DivergenceError(text)

    def missed(self) -> list[Entry]:
        """Recorded effects that the graph did not ask for, oldest first.

        A question to a human belongs to the call that it was about and is met with it.
        """
        return [
            entry
            for entry in self._journal.entries()
            if entry.status in ("finished", "failed")
            and entry.path not in self.recalled
            and not (entry.kind == "approval" and self._met(entry))
        ]

    def _met(self, question: Entry) -> bool:
        call = question.path.removesuffix("/approval").partition("/in_doubt/")[0]
        asked = self._journal.find(call)
        return call in self.recalled or asked is None or asked.status in ("started", "waiting")


async def replay(database: Database, program: Program, run: RunRow) -> ReplayReport:
    """Run the graph of ``run`` against its journal and compare.

    ``program`` is built from the stored agent; what it would execute with is never touched.
    """
    journal = await Journal.load(database, run.id)
    base = await base_state(database, program, run)
    return await offline(lambda loop: _compare(program, run, journal, base, loop))


async def replay_past(
    database: Database, program: Program, run: RunRow, journal: Journal
) -> ReplayReport:
    """``replay`` of a part of a run: of the entries that ``journal`` holds."""
    unfinished = replace(run, status="running")
    base = await base_state(database, program, run)
    return await offline(lambda loop: _compare(program, unfinished, journal, base, loop))


async def _compare(
    program: Program, run: RunRow, journal: Journal, base: State, loop: OfflineLoop
) -> ReplayReport:
    complete = run.status == "completed"
    door = ClosedDoor(journal, Recall(journal, loop.parked), complete=complete)
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
    state: Any = program.initial(run.prompt, run.id)
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
