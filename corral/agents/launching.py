"""What a run is begun with: its row, its program and its terms, of the settings and its caller."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from corral.agents.caching import cache_terms
from corral.agents.direct import ToolCall, program_of
from corral.agents.fingerprint import fingerprint, own_code, require_own_code, require_own_graph
from corral.agents.options import Fork, RunOptions
from corral.agents.patience import agent_terms
from corral.agents.policy_files import Chosen, agent_layers
from corral.agents.roster import Roster
from corral.agents.services import AgentServices, Shared
from corral.agents.shielding import Shielding
from corral.agents.spec import Agent
from corral.agents.spending import Spending, as_begun, noted
from corral.errors import ConflictError, UsageError
from corral.jsontypes import JsonObject
from corral.policies.limits import RunLimits
from corral.policies.redaction import Redactor
from corral.policies.rules import Rule
from corral.runtime import runs
from corral.runtime.config import Settings
from corral.runtime.engine import Terms
from corral.runtime.entries import Parting
from corral.runtime.fork import check_past, fork_point, replaced_entry
from corral.runtime.origin import changed_by_moving
from corral.runtime.program import Program, State
from corral.runtime.records import Records
from corral.runtime.replay import base_state
from corral.runtime.runs import NewRun, RunRow
from corral.runtime.stations.facts import PolicyRules


@dataclass(frozen=True)
class Launch:
    """A run that can begin. A fork's thread begins with the state ``base``."""

    program: Program
    new: NewRun
    terms: Terms
    base: State | None = None


class Launcher:
    """Makes ready what ``Corral`` runs. Raises ``UsageError`` before anything is started."""

    def __init__(
        self, settings: Settings, records: Records, redactor: Redactor, shared: Shared
    ) -> None:
        self.settings = settings
        self.roster = Roster(settings, redactor)
        self.spending = Spending(settings, shared.model)
        self._records = records
        self._redactor = redactor
        self._shared = shared
        self._shielding = Shielding(settings, records.database, redactor)

    async def new(self, prompt: str, options: RunOptions) -> Launch:
        """A new run of an agent."""
        if not prompt.strip():
            raise UsageError("The prompt is empty.", hint="Say what the agent should do.")
        agent = self.roster.agent(options.agent, options.model)
        self.services(agent).open_model()
        thread = await self._thread(options)
        return await self._begun(agent, {}, prompt, replace(options, thread=thread))

    async def new_call(self, call: ToolCall, options: RunOptions) -> Launch:
        """A new run that is one call of a tool."""
        agent = self.roster.agent(call.agent(), options.model)
        thread = await self._thread(options)
        shield = await self._shielding.of(thread, self._shared.sandboxed)
        call = call.redacted(shield.redactor)
        return await self._begun(
            agent, call.to_spec(), call.prompt, replace(options, thread=thread)
        )

    async def _thread(self, options: RunOptions) -> str:
        """The thread that goes on, which must be of this workspace, or a new one."""
        thread = options.thread
        if thread is None:
            return runs.new_thread_id()
        database = self._records.database
        self._require_workspace(await database.read(lambda c: runs.workspace_of(c, thread)))
        return thread

    async def _begun(
        self, agent: Agent, spec: JsonObject, prompt: str, options: RunOptions
    ) -> Launch:
        program = self.program(agent, spec)
        policy = Chosen.by(options.policy, options.rules)
        new = self._row(agent, program, prompt, policy)
        thread = options.thread or new.thread
        new = replace(new, spec={**new.spec, **spec}, thread=thread, id=options.id)
        terms = await self._terms(agent, policy, options.limits, thread)
        terms = terms.asked_by(self.spending.terms(agent, options.budget), options.priority)
        new = noted(replace(new, prompt=_stored(prompt, terms.redactor)), options)
        return Launch(program, new, terms)

    async def resumed(self, row: RunRow, options: RunOptions) -> tuple[Program, Terms]:
        """What a stored run goes on with."""
        self._require_workspace(row.workspace)
        agent = self.roster.of_run(row, options)
        require_own_code(row, agent)
        policy = Chosen.by(options.policy, options.rules, row.spec)
        options = as_begun(row.spec, options)
        terms = await self._terms(agent, policy, options.limits, row.thread, row.id)
        terms = terms.asked_by(self.spending.terms(agent, options.budget), options.priority)
        return self._opened(agent, row.spec), terms

    async def forked(self, row: RunRow, fork: Fork, options: RunOptions) -> Launch:
        """The new run of a fork, its past checked."""
        self._require_workspace(row.workspace)
        database = self._records.database
        point = await fork_point(database, row, fork.at)
        parent = self.roster.of_run(row, options)
        require_own_graph(row, parent)
        left = Parting(row.id, fork.at, {**fork.changes(), **changed_by_moving(row.origin)})
        await check_past(database, self.program(parent, row.spec), row, left, point)
        brought = fork.agent or (options.agent if isinstance(options.agent, Agent) else None)
        stored = Agent.from_spec(row.spec["agent"])
        agent = self.roster.agent(
            brought or stored, fork.model or (brought and brought.model) or row.model
        )
        if fork.agent is None:
            require_own_code(row, agent)
        spec = ToolCall.kept(row.spec)
        program = self._opened(agent, spec)
        policy = Chosen.by(options.policy, options.rules, row.spec)
        prompt = row.prompt if fork.prompt is None else fork.prompt
        new = replace(self._row(agent, program, prompt, policy), left=left)
        new = replace(new, spec={**new.spec, **spec})
        if fork.result is not None:
            replaced = replaced_entry(point.entry, fork.result, self._redactor)
            new = replace(new, replaced=replaced)
        options = as_begun(row.spec, options)
        new = noted(new, options)
        await self._shielding.share(row.thread, new.thread)
        terms = await self._terms(agent, policy, options.limits, new.thread)
        terms = terms.asked_by(self.spending.terms(agent, options.budget), options.priority)
        base = await base_state(database, self.program(parent, row.spec), row)
        return Launch(program, replace(new, prompt=_stored(prompt, terms.redactor)), terms, base)

    def look_again(self) -> None:
        """Read the agents anew when one is next named: those of a long-lived process change."""
        self.roster = Roster(self.settings, self._redactor)

    async def stored(self, prompt: str, thread: str) -> str:
        """A prompt as a run of this thread would keep it: without what must not be stored."""
        shield = await self._shielding.of(thread, self._shared.sandboxed)
        return _stored(prompt, shield.redactor)

    async def stored_json(self, value: JsonObject, thread: str) -> JsonObject:
        """``stored`` for JSON."""
        shield = await self._shielding.of(thread, self._shared.sandboxed)
        found = shield.redactor.json(value)
        assert isinstance(found, dict)
        return found

    def program(self, agent: Agent, spec: JsonObject) -> Program:
        """What a run of this agent executes; ``spec`` is what is stored with the run."""
        return program_of(self.services(agent), spec)

    def services(self, agent: Agent) -> AgentServices:
        """What the effects of an agent are made with."""
        model = agent.model or self.settings.model
        return AgentServices(self._shared, agent, model, lambda one: program_of(one, {}))

    def _opened(self, agent: Agent, spec: JsonObject) -> Program:
        """The program of an agent that is about to run.

        Its model is opened: a missing file or key is told before anything is stored.
        """
        if not ToolCall.kept(spec):
            self.services(agent).open_model()
        return self.program(agent, spec)

    def _row(self, agent: Agent, program: Program, prompt: str, policy: Chosen) -> NewRun:
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

    def _require_workspace(self, workspace: str) -> None:
        """A conversation stays in its folder: its tools and its approvals were about that one."""
        if workspace != str(self.settings.workspace):
            raise ConflictError(
                f"This conversation works in {workspace}, not in {self.settings.workspace}.",
                hint=f"Go there, or write `corral --workspace {shlex.quote(workspace)} …`.",
            )

    async def _terms(
        self,
        agent: Agent,
        policy: Chosen,
        limits: RunLimits | None,
        thread: str,
        run: str | None = None,
    ) -> Terms:
        workspace = str(_existing(self.settings.workspace))
        standing = await self._records.standing_rules(workspace, thread, run)
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


def _existing(workspace: Path) -> Path:
    if not workspace.is_dir():
        raise UsageError(
            f"There is no folder {workspace} to work in.",
            hint="Make it, or choose another with --workspace DIR.",
        )
    return workspace


def _stored(prompt: str, redactor: Redactor) -> str:
    return redactor.text(prompt.encode("utf-8", "replace").decode())
