"""``Corral``: the SDK's front. It joins settings, agents and the engine, and owns what they open.

async with corral.open() as c:
    result = await c.run("What is in this folder?")
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from corral.agents.answering import Answering
from corral.agents.direct import ToolCall
from corral.agents.fingerprint import (
    changes,
    require_own_graph,
)
from corral.agents.launching import Launcher
from corral.agents.options import Fork, RunOptions
from corral.agents.services import Shared
from corral.agents.spec import Agent
from corral.jsontypes import JsonObject
from corral.memory.store import MemoryStore
from corral.policies.redaction import Redactor
from corral.runtime import runs
from corral.runtime.approvals.replies import Always, Stopped
from corral.runtime.closed_door import Progress
from corral.runtime.config import Settings, load_settings
from corral.runtime.engine import Engine
from corral.runtime.events import Event, Events, RunFinished
from corral.runtime.export.live import exported
from corral.runtime.export.otlp import OtlpTarget
from corral.runtime.migrate import open_database
from corral.runtime.program import State
from corral.runtime.records import Records, records_of
from corral.runtime.replay import base_state, replay
from corral.runtime.rewind import Rewinder
from corral.runtime.rewind_report import RewindReport
from corral.runtime.runs import RunRow
from corral.runtime.secrets import redactor_of
from corral.runtime.tool_tokens import definition_tokens
from corral.runtime.views import Approval, ReplayReport, RunResult, ServerView
from corral.tools.contract import ToolProvider


@asynccontextmanager
async def open(settings: Settings | None = None) -> AsyncIterator[Corral]:  # noqa: A001  corral.open
    """Open Corral with ``settings``, or with those of the environment and ``corral.toml``.

    Raises ``ConfigError`` and ``StorageError``. On leaving, servers and models are stopped.
    """
    settings = settings or load_settings()
    database = await open_database(settings.database)
    redactor = redactor_of(settings)
    opened = Corral(settings, records_of(settings, database, redactor), redactor)
    try:
        yield opened
    finally:
        await opened.aclose()
        await database.aclose()


class Corral:
    """Runs agents, and everything that one can ask about runs (``records``, ``memory``).

    ``launcher`` makes ready what is run; it is for those who serve this to others.
    """

    def __init__(self, settings: Settings, records: Records, redactor: Redactor) -> None:
        """Not for callers: use ``corral.open``."""
        self.settings = settings
        self.records = records
        self.memory = MemoryStore(records.database)
        self._shared = Shared(settings, self.memory, records.database)
        self._rewinder = Rewinder(records.database, settings.snapshots)
        self._engine = Engine(records.database)
        self.launcher = Launcher(settings, records, redactor, self._shared)
        self._answers = Answering(records, redactor, self.launcher.roster, self.launcher.spending)

    async def stream(self, prompt: str, options: RunOptions = RunOptions()) -> Events:
        """Start a run and yield what it does, ``RunFinished`` last.

        Raises ``UsageError`` before anything is started. Closing the iterator stops the run; it
        can be resumed.
        """
        launch = await self.launcher.new(prompt, options)
        events = self._engine.start(launch.program, launch.new, launch.terms)
        async with aclosing(self._with_approver(events, options)) as told:
            async for event in told:
                yield event

    async def stream_call(
        self, tool: str, args: JsonObject, options: RunOptions = RunOptions()
    ) -> Events:
        """Make one tool call as a run of its own, and yield what it does, ``RunFinished`` last.

        ``tool`` is ``SERVER__TOOL``. Policy, approvals, the journal and the trace are as for an
        agent's calls, and no model is asked. A call that fails is a run that fails.
        """
        launch = await self.launcher.new_call(ToolCall(tool, args), options)
        events = self._engine.start(launch.program, launch.new, launch.terms)
        async with aclosing(self._with_approver(events, options)) as told:
            async for event in told:
                yield event

    async def call_tool(
        self, tool: str, args: JsonObject, options: RunOptions = RunOptions()
    ) -> RunResult:
        """``stream_call`` to its end; the result's text is the ``output``."""
        return await _drain(self.stream_call(tool, args, options))

    async def stream_resume(self, run: str, options: RunOptions = RunOptions()) -> Events:
        """Go on with a run after a crash, an answered approval, a limit or a failure.

        Of ``options`` the agent is needed only when it has Python functions or a model object of
        its own; ``policy`` replaces the one that the run began with, and what ``limits`` and
        ``budget`` say replaces what they said then. Raises ``UsageError`` before anything is done.
        """
        events = self._resumed(run, options)
        async with aclosing(self._with_approver(events, options)) as told:
            async for event in told:
                yield event

    async def stream_fork(self, run: str, fork: Fork, options: RunOptions = RunOptions()) -> Events:
        """Start a new run that shares a run's past up to an effect, and yield what it does.

        The past is replayed and not made again; what was spent in it counts. From there on the
        run is live, in a thread of its own, with what ``fork`` changes. Of ``options`` the agent is
        needed as for ``stream_resume``. Raises ``NotFoundError``, ``UsageError`` and, when the
        agent's code no longer takes the way to that effect, ``DivergenceError``.
        """
        launch = await self.launcher.forked(await self._load(run), fork, options)
        if launch.base:
            await self._engine.seed(launch.program, launch.new.thread, launch.base)
        events = self._engine.start(launch.program, launch.new, launch.terms)
        async with aclosing(self._with_approver(events, options)) as told:
            async for event in told:
                yield event

    async def fork(self, run: str, fork: Fork, options: RunOptions = RunOptions()) -> RunResult:
        """``stream_fork`` to its end."""
        return await _drain(self.stream_fork(run, fork, options))

    async def run(self, prompt: str, options: RunOptions = RunOptions()) -> RunResult:
        """``stream`` to its end."""
        return await _drain(self.stream(prompt, options))

    async def resume(self, run: str, options: RunOptions = RunOptions()) -> RunResult:
        """``stream_resume`` to its end."""
        return await _drain(self.stream_resume(run, options))

    async def replay(
        self, run: str, options: RunOptions = RunOptions(), progress: Progress | None = None
    ) -> ReplayReport:
        """Run the graph of a run against its journal. Executes nothing.

        ``progress`` is told how many effects were met, and of how many, in another thread.
        """
        row = await self._load(run)
        agent = self.launcher.roster.of_run(row, options)
        require_own_graph(row, agent)
        program = self.launcher.program(agent, row.spec)
        report = await replay(self.records.database, program, row, progress)
        return replace(report, changed=changes(row.code, agent, program.version))

    async def state_before(self, run: str, options: RunOptions = RunOptions()) -> State:
        """What the thread of a run held before the run: the values of its graph's channels."""
        row = await self._load(run)
        if row.base.checkpoint is None:
            return {}
        agent = self.launcher.roster.of_run(row, options)
        require_own_graph(row, agent)
        program = self.launcher.program(agent, row.spec)
        return await base_state(self.records.database, program, row)

    async def approvals(self, run: str | None = None) -> list[Approval]:
        """The questions that wait for a human."""
        return await self.records.approvals(run=run)

    async def approve(
        self, approval: str, *, args: JsonObject | None = None, always: Always | bool = False
    ) -> Approval:
        """Let a call be made; then ``resume`` its run. See ``Records.answer``."""
        return await self.records.approve(approval, args=args, always=always)

    async def deny(self, approval: str, reason: str, *, always: Always | bool = False) -> Approval:
        """Refuse a call; then ``resume`` its run. See ``Records.answer``."""
        return await self.records.deny(approval, reason, always=always)

    async def give(self, approval: str, result: str) -> Approval:
        """Give the result in the tool's place; then ``resume`` its run. See ``Records.answer``."""
        return await self.records.give(approval, result)

    async def stop(self, approval: str, reason: str = Stopped.reason) -> Approval:
        """Stop the run at a question. See ``Records.answer``."""
        return await self.records.stop(approval, reason)

    async def rewind(
        self, thread: str, to: int | str, *, files: bool = True, dry_run: bool = False
    ) -> RewindReport:
        """Take a thread back to after its run ``to`` (a number, an id; 0: its beginning).

        Conversation, files and memories go back together. See ``Rewinder.rewind``.
        """
        act = self._rewinder.plan if dry_run else self._rewinder.rewind
        return await act(thread, str(to), files=files)

    async def undo_rewind(self, thread: str, *, dry_run: bool = False) -> RewindReport:
        """Bring forward what the newest rewind has taken back. See ``Rewinder.undo``."""
        act = self._rewinder.plan_undo if dry_run else self._rewinder.undo
        return await act(thread)

    async def servers(self) -> list[ServerView]:
        """All configured tool servers with their tools. Starts those that are not running."""
        views = []
        for name in self._shared.server_names:
            config = self.settings.mcp.get(name)
            transport = config.transport if config else "built in"
            found = await self.launcher.services(Agent(servers=(name,), offered=0)).tools.catalog()
            specs = tuple(spec.to_json() for spec in found.tools)
            error, tokens = "; ".join(found.problems) or None, definition_tokens(found.tools)
            views.append(ServerView(name, transport, specs, error, tokens))
        return views

    def provider(self, name: str) -> ToolProvider:
        """A tool server by name, to look at what it declares. Raises ``NotFoundError``."""
        return self._shared.provider(name)

    def warm(self, options: RunOptions = RunOptions()) -> None:
        """Load the model and start the servers in the background."""
        agent = self.launcher.roster.agent(options.agent, options.model)
        self._shared.warm(self.launcher.services(agent))

    async def aclose(self) -> None:
        """Stop runs and servers, and free models."""
        await self._engine.aclose()
        await self._shared.aclose()

    async def _load(self, run: str) -> RunRow:
        return await self.records.database.read(lambda c: runs.load(c, run))

    async def _resumed(self, run: str, options: RunOptions) -> Events:
        """One resume, without asking the approver."""
        row = await self._load(run)
        program, terms = await self.launcher.resumed(row, options)
        async with aclosing(self._engine.resume(program, row.id, terms)) as events:
            async for event in events:
                yield event

    def _with_approver(self, events: Events, options: RunOptions) -> Events:
        """All events of a run, which is sent to OpenTelemetry meanwhile if the settings say so."""
        answered = self._answering(events, options)
        return exported(answered, self.records, OtlpTarget.live(self.settings))

    async def _answering(self, events: Events, options: RunOptions) -> Events:
        """The events, and those of the resumes that the approver's answers lead to."""
        while True:
            finished: RunFinished | None = None
            async with aclosing(self._answers.listening(events, options)) as heard:
                async for event in heard:
                    if isinstance(event, RunFinished):
                        finished = event
                    else:
                        yield event
            assert finished is not None
            ended = await self._answers.ended(finished.result, options)
            if ended is not None:
                yield RunFinished(ended)
                return
            events = self._resumed(finished.result.run, options)


async def _drain(events: AsyncIterator[Event]) -> RunResult:
    result: RunResult | None = None
    async for event in events:
        if isinstance(event, RunFinished):
            result = event.result
    assert result is not None
    return result
