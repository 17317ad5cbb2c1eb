"""``Corral``: the SDK's front. It joins settings, agents and the engine, and owns what they open.

async with corral.open() as c:
    result = await c.run("What is in this folder?")
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from corral.agents.react import ReactProgram
from corral.agents.services import AgentServices, Shared
from corral.agents.spec import DEFAULT_NAME, Agent
from corral.errors import ConfigError, ConflictError, NotFoundError, UsageError
from corral.jsontypes import JsonObject
from corral.memory.store import MemoryStore
from corral.policies.limits import RunLimits
from corral.policies.parse import find_preset, parse_policy
from corral.policies.presets import PRESETS
from corral.policies.redaction import Redactor
from corral.policies.rules import Policy, Rule
from corral.runtime import runs
from corral.runtime.config import Settings, load_settings
from corral.runtime.engine import Engine, Terms
from corral.runtime.events import Event, Events, RunFinished
from corral.runtime.gate import PolicyRules
from corral.runtime.migrate import open_database
from corral.runtime.records import Records
from corral.runtime.replay import replay
from corral.runtime.runs import NewRun, RunRow
from corral.runtime.secrets import known_secrets
from corral.runtime.views import Approval, ReplayReport, RunResult, ServerView


@dataclass(frozen=True)
class Approved:
    """An approver's yes: with other arguments, and for always, if it says so."""

    args: JsonObject | None = None
    always: bool = False


@dataclass(frozen=True)
class Denied:
    """An approver's no; the model is told ``reason``."""

    reason: str


Approver = Callable[[Approval], Awaitable[Approved | Denied | None]]
"""Asked for each approval of a run; ``None`` leaves it pending and the run paused."""


@dataclass(frozen=True)
class RunOptions:
    """How a run differs from the settings.

    ``agent`` is an ``Agent`` or the name of a configured one. ``thread`` goes on with a
    conversation. ``approver`` answers approvals in this process.
    """

    agent: Agent | str | None = None
    model: str | None = None
    thread: str | None = None
    policy: str | None = None
    limits: RunLimits | None = None
    approver: Approver | None = None


@asynccontextmanager
async def open(settings: Settings | None = None) -> AsyncIterator[Corral]:  # noqa: A001  corral.open
    """Open Corral with ``settings``, or with those of the environment and ``corral.toml``.

    Raises ``ConfigError`` and ``StorageError``. On leaving, servers and models are stopped.
    """
    settings = settings or load_settings()
    database = await open_database(settings.database)
    redactor = Redactor(known_secrets(settings))
    opened = Corral(settings, Records(database, redactor), redactor)
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
        self._shared = Shared(settings, self.memory)
        self._engine = Engine(records.database)
        self._redactor = redactor

    async def stream(self, prompt: str, options: RunOptions = RunOptions()) -> Events:
        """Start a run and yield what it does, ``RunFinished`` last.

        Raises ``UsageError`` before anything is started. Closing the iterator stops the run; it
        can be resumed.
        """
        if not prompt.strip():
            raise UsageError("The prompt is empty.", hint="Say what the agent should do.")
        agent = self._agent(options.agent, options.model)
        services = self._services(agent)
        services.open_model()  # a missing file or key is told before anything is stored
        program = ReactProgram(agent, services.model_ref, services)
        database = self.records.database
        if options.thread is not None:
            thread = options.thread
            self._require_workspace(await database.read(lambda c: runs.workspace_of(c, thread)))
        policy = _absolute(options.policy)
        new = NewRun(
            thread=options.thread or runs.new_thread_id(),
            agent=agent.name,
            model=program.model,
            spec={"agent": agent.to_spec(), "policy": policy, **_own_code(agent)},
            graph_version=program.version,
            prompt=self._redactor.text(prompt.encode("utf-8", "replace").decode()),
            workspace=str(self.settings.workspace),
        )
        terms = await self._terms(agent, policy, options.limits, new.thread)
        events = self._engine.start(program, new, terms)
        async with aclosing(self._with_approver(events, options)) as told:
            async for event in told:
                yield event

    async def stream_resume(self, run: str, options: RunOptions = RunOptions()) -> Events:
        """Go on with a run after a crash, an answered approval, a limit or a failure.

        Of ``options`` the agent is needed only when it has Python functions or a model object of
        its own; ``limits`` and ``policy`` replace those that the run began with. Raises
        ``UsageError`` before anything is done.
        """
        events = self._resumed(run, options)
        async with aclosing(self._with_approver(events, options)) as told:
            async for event in told:
                yield event

    async def run(self, prompt: str, options: RunOptions = RunOptions()) -> RunResult:
        """``stream`` to its end."""
        return await _drain(self.stream(prompt, options))

    async def resume(self, run: str, options: RunOptions = RunOptions()) -> RunResult:
        """``stream_resume`` to its end."""
        return await _drain(self.stream_resume(run, options))

    async def replay(self, run: str, options: RunOptions = RunOptions()) -> ReplayReport:
        """Run the graph of a run against its journal. Executes nothing."""
        row = await self._load(run)
        program = self._program(self._agent_of(row, options))
        return await replay(self.records.database, program, row)

    async def approvals(self, run: str | None = None) -> list[Approval]:
        """The questions that wait for a human."""
        return await self.records.approvals(run=run)

    async def approve(
        self, approval: str, *, args: JsonObject | None = None, always: bool = False
    ) -> Approval:
        """Let a call be made; then ``resume`` its run. See ``Records.approve``."""
        rule = None
        if always:
            pending = await self.records.approval(approval)
            rule = pending.always
        return await self.records.approve(approval, args=args, always=rule)

    async def deny(self, approval: str, reason: str) -> Approval:
        """Refuse a call; then ``resume`` its run. See ``Records.deny``."""
        return await self.records.deny(approval, reason)

    async def servers(self) -> list[ServerView]:
        """All configured tool servers with their tools. Starts those that are not running."""
        views = []
        for name in self._shared.server_names:
            config = self.settings.mcp.get(name)
            transport = config.transport if config else "built in"
            tools = AgentServices(self._shared, Agent(servers=(name,)), "local").tools
            found = await tools.catalog()
            specs = tuple(spec.to_json() for spec in found.tools)
            error = "; ".join(found.problems) or None
            views.append(ServerView(name, transport, specs, error))
        return views

    def warm(self, options: RunOptions = RunOptions()) -> None:
        """Load the model and start the servers in the background."""
        agent = self._agent(options.agent, options.model)
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

    def _agent(self, agent: Agent | str | None, model: str | None) -> Agent:
        """The agent with everything filled in that the settings decide."""
        found = agent if isinstance(agent, Agent) else self._configured(agent)
        # Texts are stored with the run, and a replay must ask with what is stored.
        texts = {"instructions": found.instructions, "description": found.description}
        clean = self._redactor.json({name: text for name, text in texts.items() if text})
        assert isinstance(clean, dict)
        return found.model_copy(
            update={**clean, "model": model or found.model or self.settings.model}
        )

    def _configured(self, name: str | None) -> Agent:
        config = self.settings.agents.get(name or DEFAULT_NAME)
        if config is not None:
            return Agent(name=name or DEFAULT_NAME, **dict(config))
        if name in (None, DEFAULT_NAME):
            return Agent()
        names = ", ".join(sorted({DEFAULT_NAME, *self.settings.agents}))
        raise NotFoundError(
            f"There is no agent {name!r}.",
            hint=f"The agents are: {names}. Add [agents.{name}] to corral.toml to make it.",
        )

    def _agent_of(self, row: RunRow, options: RunOptions) -> Agent:
        if isinstance(options.agent, Agent):
            return self._agent(options.agent, options.model or row.model)
        return self._agent(Agent.from_spec(row.spec["agent"]), row.model)

    def _program(self, agent: Agent) -> ReactProgram:
        services = self._services(agent)
        return ReactProgram(agent, services.model_ref, services)

    def _services(self, agent: Agent) -> AgentServices:
        own = agent.chat_model.name if agent.chat_model is not None else None
        return AgentServices(self._shared, agent, own or agent.model or self.settings.model)

    async def _load(self, run: str) -> RunRow:
        return await self.records.database.read(lambda c: runs.load(c, run))

    async def _terms(
        self, agent: Agent, policy: str | None, limits: RunLimits | None, thread: str
    ) -> Terms:
        workspace = str(_existing(self.settings.workspace))
        standing = await self.records.standing_rules(workspace)
        rules = PolicyRules(
            policy=load_policy(self.settings, policy),
            standing=tuple(Rule.model_validate(rule) for rule in standing),
            sandboxed=self._shared.sandboxed,
            workspace=workspace,
            thread=thread,
        )
        return Terms(limits or agent.limits or self.settings.limits, rules, self._redactor)

    async def _resumed(self, run: str, options: RunOptions) -> Events:
        """One resume, without asking the approver."""
        row = await self._load(run)
        self._require_workspace(row.workspace)
        agent = self._agent_of(row, options)
        _require_own_code(row, agent)
        policy = options.policy or row.spec["policy"]
        terms = await self._terms(agent, policy, options.limits, row.thread)
        services = self._services(agent)
        services.open_model()
        program = ReactProgram(agent, services.model_ref, services)
        async with aclosing(self._engine.resume(program, row.id, terms)) as events:
            async for event in events:
                yield event

    async def _with_approver(self, events: Events, options: RunOptions) -> Events:
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
            result = finished.result
            if options.approver is None or not await self._ask(options.approver, result.approvals):
                yield finished
                return
            events = self._resumed(result.run, options)

    async def _ask(self, approver: Approver, approvals: tuple[Approval, ...]) -> bool:
        """Put the questions to the approver; whether it answered any."""
        answered = False
        for approval in approvals:
            match await approver(approval):
                case Approved(args, always):
                    await self.approve(approval.id, args=args, always=always)
                case Denied(reason):
                    await self.deny(approval.id, reason)
                case None:
                    continue
            answered = True
        return answered


def _own_code(agent: Agent) -> JsonObject:
    """What of an agent lives only in the program that made it."""
    names = [getattr(function, "__name__", "?") for function in agent.functions]
    return {"functions": names, "own_model": agent.chat_model is not None}


def _require_own_code(row: RunRow, agent: Agent) -> None:
    """Refuse to go on without the code that a run began with."""
    functions, own_model = row.spec.get("functions"), row.spec.get("own_model")
    if functions and not agent.functions:
        missing = f"Python functions ({', '.join(functions)})"
    elif own_model and agent.chat_model is None:
        missing = f"a model object ({row.model})"
    else:
        return
    raise UsageError(
        f"The run {row.id} uses {missing} of the program that started it.",
        hint="Resume it there, with the same agent: "
        f"c.resume({row.id!r}, RunOptions(agent=agent)). `corral cancel {row.id}` gives it up.",
    )


def _existing(workspace: Path) -> Path:
    if not workspace.is_dir():
        raise UsageError(
            f"There is no folder {workspace} to work in.",
            hint="Make it, or choose another with --workspace DIR.",
        )
    return workspace


def _absolute(policy: str | None) -> str | None:
    """The policy as a resume from another folder finds it."""
    if policy is None or not _is_file(policy):
        return policy
    return str(Path(policy).expanduser().absolute())


def _is_file(policy: str) -> bool:
    return policy.endswith(".toml") or "/" in policy


def load_policy(settings: Settings, policy: str | None) -> Policy:
    """The rules of the settings, then those of ``policy``: a preset's name or a file.

    Raises ``ConfigError``: where policy cannot be loaded, nothing runs.
    """
    chosen = policy or settings.policy
    path = Path(chosen).expanduser()
    if _is_file(chosen):
        try:
            base = parse_policy(path.read_text(encoding="utf-8"), str(path.absolute()))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The policy file {path} cannot be read: {error}.",
                hint="Check that the file is there and that you may read it, or name a preset: "
                + ", ".join(PRESETS),
            ) from error
    else:
        base = find_preset(chosen)
    if not settings.rules:
        return base
    return Policy(name=settings.rules_from or "the settings", rules=settings.rules, base=base)


async def _drain(events: AsyncIterator[Event]) -> RunResult:
    result: RunResult | None = None
    async for event in events:
        if isinstance(event, RunFinished):
            result = event.result
    assert result is not None
    return result
