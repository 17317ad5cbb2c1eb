"""The run loop: a run is stored, executed through its door, and ended.

Streaming is the only implementation: callers who want just the result drain the stream. The
run's input and lease are on disk before the graph starts; LangGraph writes one checkpoint when
the run pauses or ends, and the journal holds everything in between. A run is ended by a task of
its own, so that it is ended however its caller leaves.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import GraphOutput
from sqlalchemy import Connection

from corral.errors import BudgetReached, ControlFlow, CorralError
from corral.policies.limits import RunLimits
from corral.policies.redaction import Redactor
from corral.policies.requests import request_label
from corral.runtime import runs
from corral.runtime.approvals.settings import ApprovalSettings
from corral.runtime.attachments import ATTACHMENTS, attached, redacted
from corral.runtime.checkpoints import DatabaseSaver
from corral.runtime.context import RunContext, Scope, asked_with, current_run, current_scope
from corral.runtime.database import Database
from corral.runtime.door import LiveDoor
from corral.runtime.events import Event, Events, Placed, RunFinished, RunStarted
from corral.runtime.journal import Journal
from corral.runtime.langsmith_off import untraced
from corral.runtime.lease import Hold, current_hold, holding, keep
from corral.runtime.program import Program, State, with_before
from corral.runtime.recall import Recall
from corral.runtime.records import Records
from corral.runtime.runs import STOPPED_BY_USER, Ending, NewRun, RunRow
from corral.runtime.sections import SnapshotConfig
from corral.runtime.snapshots.keeper import Keeper
from corral.runtime.stations.accounts import BudgetTerms
from corral.runtime.stations.facts import PolicyRules
from corral.runtime.stations.loop_guard import AgentTerms
from corral.runtime.stations.opened import StationTerms, open_stations
from corral.runtime.stations.questions import Asking
from corral.runtime.stations.response_cache import CacheTerms
from corral.runtime.stations.shield import ShieldTerms
from corral.runtime.tool_costs import tool_costs
from corral.runtime.views import Approval, RunResult, Totals

log = structlog.get_logger()

Graph = CompiledStateGraph[Any, Any, Any, Any]
Work = asyncio.Task[GraphOutput[Any]]
"""A graph that is being executed."""

PARALLEL_TASKS = 8
"""Tasks of one graph that execute at the same time; a graph inside of another has as many."""

_RECURSION_LIMIT = 1_000_000  # the door's step limit ends a run long before


@dataclass(frozen=True)
class Terms:
    """On what terms a run is executed: limits, budgets, rules, what is redacted and kept."""

    limits: RunLimits
    rules: PolicyRules
    shield: ShieldTerms
    snapshots: SnapshotConfig
    agents: AgentTerms
    approvals: ApprovalSettings = field(default_factory=ApprovalSettings)
    budgets: BudgetTerms = field(default_factory=BudgetTerms)
    cache: CacheTerms = field(default_factory=CacheTerms)
    priority: int = 0

    def asked_by(self, budgets: BudgetTerms, priority: int) -> Terms:
        """These terms with what the run's caller says of it."""
        return replace(self, budgets=budgets, priority=priority)

    @property
    def redactor(self) -> Redactor:
        """What takes secrets out of whatever the run stores."""
        return self.shield.redactor


class Engine:
    """Starts and resumes runs over one database. ``aclose`` stops those that still run."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._saver = DatabaseSaver(database)
        self._live: dict[asyncio.Task[RunResult], Work] = {}

    def start(self, program: Program, new: NewRun, terms: Terms) -> Events:
        """Store a new run and execute it. Raises ``ConflictError`` when its thread is busy."""
        new = replace(new, attached=redacted(new.attached, terms.redactor))

        def take(connection: Connection, lease: str) -> RunRow:
            return runs.create(connection, new, lease)

        return self._execute(program, terms, take, resumed=False)

    async def seed(self, program: Program, thread: str, state: State) -> None:
        """Begin a thread that is to be forked into, with the state that it starts from."""
        graph = program.graph().compile(checkpointer=self._saver)
        await graph.aupdate_state(_config(thread), state)

    def resume(self, program: Program, run: str, terms: Terms) -> Events:
        """Go on with a run that was cut off, paused, stopped or failed.

        Raises ``ConflictError`` when it is completed, is being run, or its graph has changed.
        """

        def take(connection: Connection, lease: str) -> RunRow:
            return runs.reopen(connection, run, program.version, lease)

        return self._execute(program, terms, take, resumed=True)

    async def aclose(self) -> None:
        """Stop what still runs; it can be resumed."""
        for work in self._live.values():
            _stop(work)
        if self._live:
            await asyncio.wait(self._live)

    async def _execute(
        self,
        program: Program,
        terms: Terms,
        take: Callable[[Connection, str], RunRow],
        *,
        resumed: bool,
    ) -> Events:
        """Take the thread's lease and run; ``take`` stores the run as being run under it."""
        graph = program.graph().compile(checkpointer=self._saver)
        with holding() as lease:
            try:
                run = await self._database.write(lambda c: take(c, lease))
                new = not resumed and run.left is None
                journal = await Journal.load(self._database, run.id, new=new)
            except asyncio.CancelledError:
                await self._database.write(lambda c: runs.abandon(c, lease), durable=False)
                raise
            execution = _Execution(
                self._database, program, graph, run, terms, lease, journal, resumed
            )
            async with aclosing(self._follow(execution)) as events:
                async for event in events:
                    yield event

    async def _follow(self, execution: _Execution) -> Events:
        """Execute the graph in a task of its own and tell what it does, the result last."""
        run = execution.run
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        work = asyncio.create_task(execution.invoke(events.put_nowait))
        ending = asyncio.create_task(execution.end(work))
        self._live[ending] = work
        ending.add_done_callback(self._live.pop)
        ending.add_done_callback(lambda _: events.put_nowait(None))
        try:
            yield RunStarted(run.id, run.thread, run.agent, run.model, execution.resumed)
            while (event := await events.get()) is not None:
                yield event
        finally:
            _stop(work)
            await asyncio.wait([ending])
        yield RunFinished(ending.result())


def _with_agents(emit: Callable[[Event], None]) -> Callable[[Event], None]:
    """What tells events, each of which then says which agents it is of."""

    def tell(event: Event) -> None:
        if isinstance(event, Placed) and not event.agents:
            event = replace(event, agents=current_scope.get().agents)
        emit(event)

    return tell


def _stop(work: Work) -> None:
    """Cancel once: a second time would cut short what it does to end well."""
    if not work.cancelling():
        work.cancel()


@dataclass(frozen=True)
class _Execution:
    """One execution of a run by this process, from taking the lease to giving it back."""

    database: Database
    program: Program
    graph: Graph
    run: RunRow
    terms: Terms
    lease: str
    journal: Journal
    resumed: bool

    async def invoke(self, emit: Callable[[Event], None]) -> GraphOutput[Any]:
        """Execute the graph from where the run stands."""
        terms, run, emit = self.terms, self.run, _with_agents(emit)
        current_hold.set(Hold(run.thread, self.lease))
        asking = Asking(
            run.thread, run.agent, run.prompt, terms.limits, terms.redactor, terms.approvals
        )
        stations = await open_stations(
            self.journal,
            self.database,
            StationTerms(
                terms.limits,
                terms.rules,
                asking,
                terms.budgets,
                terms.agents,
                terms.shield,
                terms.cache,
            ),
            emit,
        )
        keeper = Keeper(
            self.database, terms.snapshots, terms.rules.workspace, run.thread, run.id, emit
        )
        recall = Recall(self.journal)
        door = LiveDoor(self.journal, recall, stations, terms.redactor, emit, keeper.before)
        context = RunContext(run.id, run.thread, door, emit, run.tags, terms.priority)
        current_run.set(context)
        current_scope.set(Scope(base_step=run.base.step, agents=(run.agent,)))
        config = _config(run.thread)
        begun = self.resumed and await self._has_begun(config)
        config["metadata"] = {"corral_run": run.id}
        try:
            files = [] if begun else await attached(self.journal.find(ATTACHMENTS), run.id)
            await self.program.prepare()
            prompt = run.prompt if begun else await self.program.admit(run.prompt)
            with asked_with(request_label(run.prompt)):
                state = None if begun else with_before(self.program.initial(prompt, run.id), files)
            with untraced():
                # In a task of its own: a time-out in a node cancels that one, and a stop this one.
                graph = self.graph.ainvoke(state, config, durability="exit", version="v2")
                return await asyncio.create_task(graph)
        finally:
            await context.end()

    async def _has_begun(self, config: RunnableConfig) -> bool:
        """Whether the thread's newest checkpoint is of this run and holds its input.

        LangGraph's very first one does not: a crash can leave it as the only one.
        """
        newest = await DatabaseSaver(self.database).aget_tuple(config)
        metadata: Any = newest.metadata if newest else {}
        mine = metadata.get("corral_run") == self.run.id
        return bool(mine and metadata["step"] > self.run.base.step)

    async def end(self, work: Work) -> RunResult:
        """Wait until the graph has ended, store how, and give the lease back."""
        keeping = asyncio.create_task(keep(self.database, Hold(self.run.thread, self.lease)))
        keeping.add_done_callback(lambda _: _stop(work))  # taken by another process
        await asyncio.wait([work])
        keeping.cancel()
        output, interrupted = await self._left(work)
        ending = self._ending(work, output, interrupted)
        self.journal.flush()
        await self.database.write(lambda c: runs.end(c, self.run, ending, self.lease))
        return await self._result(ending)

    async def _left(self, work: Work) -> tuple[str, bool]:
        """The newest answer, and whether the graph waits for a human."""
        if not work.cancelled() and work.exception() is None and work.result().value is not None:
            done = work.result()
            return self.program.output(done.value), bool(done.interrupts)
        snapshot = await self.graph.aget_state(_config(self.run.thread))
        return self.program.output(snapshot.values), bool(snapshot.interrupts)

    def _ending(self, work: Work, output: str, interrupted: bool) -> Ending:
        """Decide, in this one place, what ends a run and how."""
        if work.cancelled():
            return Ending("stopped", output, STOPPED_BY_USER)
        error = work.exception()
        if error is None and interrupted:
            return Ending("paused", output, None)
        if error is None:
            try:
                self.program.check_complete(self.journal.spent.steps)
            except Exception as unfinished:  # noqa: BLE001  a model's own code, which may raise anything
                error = unfinished
        redact = self.terms.redactor.text
        match error:
            case None:
                return Ending("completed", output, None)
            case BudgetReached(answer=answer):
                return Ending("stopped", redact(answer), redact(error.message))
            case ControlFlow():
                return Ending("stopped", output, redact(error.message))
            case CorralError():
                return Ending("failed", output, redact(str(error)))
            case _:
                told = redact("".join(traceback.format_exception(error)))
                log.error("run_failed", run=self.run.id, traceback=told)
                words = f"internal error: {type(error).__name__}: {error}"
                return Ending("failed", output, redact(words))

    async def _result(self, ending: Ending) -> RunResult:
        spent = self.journal.spent
        return RunResult(
            run=self.run.id,
            thread=self.run.thread,
            status=ending.status,
            output=ending.output,
            usage=Totals.of([spent]),
            steps=spent.steps,
            error=ending.error,
            approvals=await self._approvals(),
            tool_tokens=sum(one.tokens for one in tool_costs(self.journal.entries()).values()),
        )

    async def _approvals(self) -> tuple[Approval, ...]:
        """The questions of this run that wait for an answer."""
        if not any(entry.kind == "approval" for entry in self.journal.entries()):
            return ()
        records = Records(self.database, self.terms.redactor)
        return tuple(await records.approvals(run=self.run.id))


def _config(thread: str) -> RunnableConfig:
    return {
        "configurable": {"thread_id": thread},
        "recursion_limit": _RECURSION_LIMIT,
        "max_concurrency": PARALLEL_TASKS,
    }
