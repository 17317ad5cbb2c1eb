"""``Corral``: the SDK's front. It joins settings, agents and the engine, and owns what they open.

async with corral.open() as c:
    result = await c.run("What is in this folder?")
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from corral.agents.answering import Answering
from corral.agents.caching import cache_terms
from corral.agents.fingerprint import (
    changes,
    fingerprint,
    own_code,
    require_own_code,
    require_own_graph,
)
from corral.agents.options import Fork, RunOptions
from corral.agents.patience import agent_terms
from corral.agents.policy_files import Chosen, agent_layers
from corral.agents.programs import build_program
from corral.agents.roster import Roster
from corral.agents.services import AgentServices, Shared
from corral.agents.shielding import Shielding
from corral.agents.spec import Agent
from corral.agents.spending import Spending, as_begun, noted
from corral.errors import ConflictError, UsageError
from corral.jsontypes import JsonObject
from corral.memory.store import MemoryStore
from corral.policies.limits import RunLimits
from corral.policies.redaction import Redactor
from corral.policies.rules import Rule
from corral.runtime import runs
from corral.runtime.approvals.replies import Always, Stopped
from corral.runtime.closed_door import Progress
from corral.runtime.config import Settings, load_settings
from corral.runtime.engine import Engine, Terms
from corral.runtime.entries import Parting
from corral.runtime.events import Event, Events, RunFinished
from corral.runtime.export.live import exported
from corral.runtime.export.otlp import OtlpTarget
from corral.runtime.fork import check_past, fork_point, replaced_entry
from corral.runtime.migrate import open_database
from corral.runtime.origin import changed_by_moving
from corral.runtime.program import Program, State
from corral.runtime.records import Records, records_of
from corral.runtime.replay import base_state, replay
from corral.runtime.rewind import Rewinder
from corral.runtime.rewind_report import RewindReport
from corral.runtime.runs import NewRun, RunRow
from corral.runtime.secrets import redactor_of
from corral.runtime.stations.facts import PolicyRules
from corral.runtime.tool_tokens import definition_tokens
from corral.runtime.views import Approval, ReplayReport, RunResult, ServerView


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
    """Runs agents, and everything that one can ask about runs (``records``, ``memory``)."""

    def __init__(self, settings: Settings, records: Records, redactor: Redactor) -> None:
        """Not for callers: use ``corral.open``."""
        self.settings = settings
        self.records = records
        self.memory = MemoryStore(records.database)
        self._shared = Shared(settings, self.memory, records.database)
        self._rewinder = Rewinder(records.database, settings.snapshots)
        self._engine = Engine(records.database)
        self._redactor = redactor
        self._roster = Roster(settings, redactor)
        self._shielding = Shielding(settings, records.database, redactor)
        self._spending = Spending(settings, self._shared.model)
        self._answers = Answering(records, redactor, self._roster, self._spending)

    async def stream(self, prompt: str, options: RunOptions = RunOptions()) -> Events:
        """Start a run and yield what it does, ``RunFinished`` last.

        Raises ``UsageError`` before anything is started. Closing the iterator stops the run; it
        can be resumed.
        """
        if not prompt.strip():
            raise UsageError("The prompt is empty.", hint="Say what the agent should do.")
        agent = self._roster.agent(options.agent, options.model)
        program = self._opened(agent)
        database = self.records.database
        if options.thread is not None:
            thread = options.thread
            self._require_workspace(await database.read(lambda c: runs.workspace_of(c, thread)))
        policy = Chosen.by(options.policy, options.rules)
        new = self._new_run(agent, program, prompt, policy)
        new = noted(replace(new, thread=options.thread or new.thread), options)
        terms = await self._terms(agent, policy, options.limits, new.thread)
        terms = terms.asked_by(self._spending.terms(agent, options.budget), options.priority)
        new = replace(new, prompt=_stored(prompt, terms.redactor))
        events = self._engine.start(program, new, terms)
        async with aclosing(self._with_approver(events, options)) as told:
            async for event in told:
                yield event

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
        new, terms, program = await self._forked(run, fork, options)
        events = self._engine.start(program, new, terms)
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
        agent = self._roster.of_run(row, options)
        require_own_graph(row, agent)
        program = self._program(agent)
        report = await replay(self.records.database, program, row, progress)
        return replace(report, changed=changes(row.code, agent, program.version))

    async def state_before(self, run: str, options: RunOptions = RunOptions()) -> State:
        """What the thread of a run held before the run: the values of its graph's channels."""
        row = await self._load(run)
        if row.base.checkpoint is None:
            return {}
        agent = self._roster.of_run(row, options)
        require_own_graph(row, agent)
        return await base_state(self.records.database, self._program(agent), row)

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
            found = await self._services(Agent(servers=(name,), offered=0)).tools.catalog()
            specs = tuple(spec.to_json() for spec in found.tools)
            error, tokens = "; ".join(found.problems) or None, definition_tokens(found.tools)
            views.append(ServerView(name, transport, specs, error, tokens))
        return views

    def warm(self, options: RunOptions = RunOptions()) -> None:
        """Load the model and start the servers in the background."""
        agent = self._roster.agent(options.agent, options.model)
        self._shared.warm(self._services(agent))

    async def aclose(self) -> None:
        """Stop runs and servers, and free models."""
        await self._engine.aclose()
        await self._shared.aclose()

    def _require_workspace(self, workspace: str) -> None:
        """A conversation stays in its folder: its tools and its approvals were about that one."""
        if workspace != str(self.settings.workspace):
            raise ConflictError(
                f"This conversation works in {workspace}, not in {self.settings.workspace}.",
                hint=f"Go there, or write `corral --workspace {shlex.quote(workspace)} …`.",
            )

    def _program(self, agent: Agent) -> Program:
        return build_program(self._services(agent))

    def _opened(self, agent: Agent) -> Program:
        """The program of an agent that is about to run.

        Its model is opened: a missing file or key is told before anything is stored.
        """
        services = self._services(agent)
        services.open_model()
        return build_program(services)

    def _new_run(self, agent: Agent, program: Program, prompt: str, policy: Chosen) -> NewRun:
        """A run of this agent in a new thread of this workspace."""
        return NewRun(
            thread=runs.new_thread_id(),
            agent=agent.name,
            model=program.model,
            spec={"agent": agent.to_spec(), **policy.to_spec(), **own_code(agent)},
            graph_version=program.version,
            prompt=prompt,
            workspace=str(self.settings.workspace),
            code=fingerprint(agent, program.version),
        )

    def _services(self, agent: Agent) -> AgentServices:
        model = agent.model or self.settings.model
        return AgentServices(self._shared, agent, model, build_program)

    async def _load(self, run: str) -> RunRow:
        return await self.records.database.read(lambda c: runs.load(c, run))

    async def _terms(
        self,
        agent: Agent,
        policy: Chosen,
        limits: RunLimits | None,
        thread: str,
        run: str | None = None,
    ) -> Terms:
        workspace = str(_existing(self.settings.workspace))
        standing = await self.records.standing_rules(workspace, thread, run)
        shield = await self._shielding.of(thread, self._shared.sandboxed)
        rules = PolicyRules(
            policy=policy.load(self.settings, agent_layers(agent)),
            standing=tuple(Rule.model_validate(rule) for rule in standing),
            sandboxed=self._shared.sandboxed,
            workspace=workspace,
            thread=thread,
            remote=self._shared.remote,
            networked=self.settings.networked_servers,
            rewindable=self.settings.snapshots.enabled,
        )
        own, agents = self.settings, agent_terms(agent, self.settings, limits)
        kept = (agents.limits, rules, shield, own.snapshots, agents, own.approvals)
        return Terms(*kept, cache=cache_terms(agent, self._shared))

    async def _forked(
        self, run: str, fork: Fork, options: RunOptions
    ) -> tuple[NewRun, Terms, Program]:
        """The new run of a fork, its past checked, and its thread begun."""
        row = await self._load(run)
        self._require_workspace(row.workspace)
        database = self.records.database
        point = await fork_point(database, row, fork.at)
        parent = self._roster.of_run(row, options)
        require_own_graph(row, parent)
        left = Parting(row.id, fork.at, {**fork.changes(), **changed_by_moving(row.origin)})
        await check_past(database, self._program(parent), row, left, point)
        brought = fork.agent or (options.agent if isinstance(options.agent, Agent) else None)
        stored = Agent.from_spec(row.spec["agent"])
        agent = self._roster.agent(
            brought or stored, fork.model or (brought and brought.model) or row.model
        )
        if fork.agent is None:
            require_own_code(row, agent)
        program = self._opened(agent)
        policy = Chosen.by(options.policy, options.rules, row.spec)
        prompt = row.prompt if fork.prompt is None else fork.prompt
        new = replace(self._new_run(agent, program, prompt, policy), left=left)
        if fork.result is not None:
            replaced = replaced_entry(point.entry, fork.result, self._redactor)
            new = replace(new, replaced=replaced)
        options = as_begun(row.spec, options)
        new = noted(new, options)
        await self._shielding.share(row.thread, new.thread)
        terms = await self._terms(agent, policy, options.limits, new.thread)
        terms = terms.asked_by(self._spending.terms(agent, options.budget), options.priority)
        new = replace(new, prompt=_stored(prompt, terms.redactor))
        if base := await base_state(database, self._program(parent), row):
            await self._engine.seed(program, new.thread, base)
        return new, terms, program

    async def _resumed(self, run: str, options: RunOptions) -> Events:
        """One resume, without asking the approver."""
        row = await self._load(run)
        self._require_workspace(row.workspace)
        agent = self._roster.of_run(row, options)
        require_own_code(row, agent)
        policy = Chosen.by(options.policy, options.rules, row.spec)
        options = as_begun(row.spec, options)
        terms = await self._terms(agent, policy, options.limits, row.thread, row.id)
        terms = terms.asked_by(self._spending.terms(agent, options.budget), options.priority)
        program = self._opened(agent)
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
            async with aclosing(events):
                async for event in events:
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


def _existing(workspace: Path) -> Path:
    if not workspace.is_dir():
        raise UsageError(
            f"There is no folder {workspace} to work in.",
            hint="Make it, or choose another with --workspace DIR.",
        )
    return workspace


def _stored(prompt: str, redactor: Redactor) -> str:
    return redactor.text(prompt.encode("utf-8", "replace").decode())


async def _drain(events: AsyncIterator[Event]) -> RunResult:
    result: RunResult | None = None
    async for event in events:
        if isinstance(event, RunFinished):
            result = event.result
    assert result is not None
    return result
