"""What the agents of one process share: models, tool servers and memory, each opened when used."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from corral.agents import delegation as delegating
from corral.agents import handoff
from corral.agents.delegation import Delegates, SubAgent, Task
from corral.agents.memory_tools import SERVER as MEMORY
from corral.agents.memory_tools import MemoryTools
from corral.agents.results import ResultTools
from corral.agents.spec import Agent
from corral.agents.typed_answer import TypedAnswer
from corral.errors import ConfigError, NotFoundError
from corral.jsontypes import JsonObject
from corral.memory.store import MemoryStore
from corral.runtime.calls import ToolUse
from corral.runtime.checking import bound
from corral.runtime.config import Settings
from corral.runtime.database import Database
from corral.runtime.effects import Bound, Effect
from corral.runtime.models.combined.opening import asked_first, open_combined
from corral.runtime.models.configured import configured
from corral.runtime.models.contract import ChatModel, EmbeddingModel
from corral.runtime.models.embeddings import open_embedding
from corral.runtime.models.hosted.model import HostedModel
from corral.runtime.models.local.model import LocalModel
from corral.runtime.models.local.states.removal import states_folder
from corral.runtime.models.registry import ModelOptions, open_model
from corral.runtime.models.withholding import Withholding
from corral.runtime.previews import preview_limit
from corral.runtime.program import Program
from corral.runtime.sampling import sampling_effect
from corral.sandbox.contract import LocalBackend
from corral.sandbox.registry import select_backend
from corral.tools.builder import Kept, build_provider, builtin_provider
from corral.tools.code_provider import code_provider
from corral.tools.contract import CallOptions, ToolProvider, ToolResult, ToolSpec
from corral.tools.functions import FunctionTools
from corral.tools.inquiry import Sample
from corral.tools.pin_store import DatabaseEras, DatabasePins
from corral.tools.pool import Catalog, ToolPool
from corral.tools.router.choice import Router, Wanted
from corral.tools.router.finding import FIND, ToolFinder
from corral.tools.router.settings import ToolsSettings
from corral.tools.settings import BUILTIN_SERVERS

FUNCTIONS = "functions"
"""The server's name under which an agent's own Python functions are offered."""


class Shared:
    """Models and tool servers of one process. Nothing is started before its first use."""

    def __init__(self, settings: Settings, memory: MemoryStore, database: Database) -> None:
        self.settings = settings
        self.memory = memory
        self.database = database
        self._models: dict[str, ChatModel] = {}
        self._embeddings: dict[str, EmbeddingModel] = {}
        self._providers: dict[str, ToolProvider] = {}
        self._warming: set[asyncio.Task[None]] = set()

    @property
    def server_names(self) -> tuple[str, ...]:
        """The tool servers of an agent that names none: ours, the configured ones, the memory."""
        return (*self.settings.servers, *self.settings.mcp, MEMORY)

    @property
    def sandboxed(self) -> frozenset[str]:
        """The servers that run inside the sandbox."""
        return self.settings.sandboxed_servers

    @property
    def remote(self) -> frozenset[str]:
        """The servers that are reached over the network."""
        return self.settings.remote_servers

    def model(self, ref: str) -> ChatModel:
        """The model of a reference, opened once. Raises ``NotFoundError`` and ``ConfigError``."""
        if ref not in self._models:
            combined = open_combined(ref, self.settings.models, self.model)
            self._models[ref] = combined or self.shown(self._open_alone(ref))
        return self._models[ref]

    def _open_alone(self, ref: str) -> ChatModel:
        return open_model(ref, self._options(ref))

    def _options(self, ref: str) -> ModelOptions:
        return configured(ref, self.settings, states_folder(self.settings.home))

    def embedding(self, ref: str) -> EmbeddingModel:
        """The embedding model of a reference, opened once. Raises as ``model``."""
        if ref not in self._embeddings:
            self._embeddings[ref] = open_embedding(ref, self._options(ref))
        return self._embeddings[ref]

    def shown(self, model: ChatModel) -> ChatModel:
        """The model, kept from seeing what the settings withhold from hosted ones."""
        redaction = self.settings.redaction
        if redaction.hosted and isinstance(model, HostedModel):
            return Withholding(model, redaction.withheld())
        return model

    def provider(self, name: str, agent: str = "") -> ToolProvider:
        """A tool server by name, or the memory of an agent. Raises ``NotFoundError``."""
        if name == MEMORY:
            return MemoryTools(self.memory, agent)
        if name not in self._providers:
            self._providers[name] = self._build(name)
        return self._providers[name]

    def _build(self, name: str) -> ToolProvider:
        settings = self.settings
        if name == "python" and settings.python.backend != "local":
            return code_provider(settings.builtin, os.environ)
        if name in BUILTIN_SERVERS:
            return builtin_provider(name, self.backend, settings.workspace, settings.builtin)
        if name in settings.mcp:
            config = settings.mcp[name].expanded(os.environ).limited(settings.sandbox_limits)
            return build_provider(
                name, config, self.backend, settings.workspace, kept=self.kept_of_servers
            )
        raise NotFoundError(
            f"There is no tool server {name!r}.",
            hint=f"The servers are: {', '.join(self.server_names)}. Add [mcp.{name}] to use it.",
        )

    @cached_property
    def kept_of_servers(self) -> Kept:
        """What is kept of external servers between processes."""
        pins, eras = DatabasePins(self.database), DatabaseEras(self.database)
        return Kept(pins, eras, self.settings.home)

    @cached_property
    def backend(self) -> LocalBackend:
        """The sandbox in which servers run."""
        return select_backend(self.settings.sandbox, self.settings.sandbox_require)

    def warm(self, agent: AgentServices) -> None:
        """Load the model and start the servers in the background, while the user types."""
        for step in (agent.tools.warm, agent.warm_model):
            task = asyncio.ensure_future(step())
            self._warming.add(task)
            task.add_done_callback(self._warmed)

    def _warmed(self, task: asyncio.Task[None]) -> None:
        self._warming.discard(task)
        # Whatever went wrong goes wrong again, and is told, when it is really needed.
        if not task.cancelled():
            task.exception()

    async def aclose(self) -> None:
        """Stop all servers and free all models, whatever happens to one of them."""
        for task in tuple(self._warming):
            task.cancel()
        await asyncio.gather(*self._warming, return_exceptions=True)
        servers = [server.aclose() for server in self._providers.values()]
        models = [model.aclose() for model in self._models.values()]
        embeddings = [model.aclose() for model in self._embeddings.values()]
        await asyncio.gather(*servers, *models, *embeddings, return_exceptions=True)


class AgentTools:
    """The tools that one agent may use, over the shared servers.

    It may give tasks to its ``workers``.
    """

    def __init__(
        self, shared: Shared, agent: Agent, workers: Sequence[Agent], page: Callable[[], int]
    ) -> None:
        self._agent = agent
        names = agent.servers if agent.servers is not None else shared.server_names
        if agent.tool_choice == "none":
            names = ()
        self.server_names = names
        providers = [shared.provider(name, agent.name) for name in names]
        if workers:
            specs = tuple(delegating.as_tool(one.name, one.description) for one in workers)
            providers.append(Delegates(specs))
        if agent.handoffs:
            providers.append(handoff.Handoffs(agent.handoffs))
        if agent.functions:
            providers.append(FunctionTools(FUNCTIONS, agent.functions))
        providers.append(ResultTools(shared.database, page))
        providers.append(ToolFinder(self._search))
        self._router = Router(_offering(shared.settings.tools, agent))
        self._catalog: Catalog | None = None
        self._pool = ToolPool(providers, max_chars=shared.settings.max_tool_output)

    async def catalog(self) -> Catalog:
        """The agent's tools, in a stable order.

        Raises ``ConfigError`` when the agent names a tool that no server offers.
        """
        self._catalog = found = await self._pool.catalog()
        if self._agent.tools is None:
            is_routed = self._router.is_needed(found.tools)
            return replace(found, tools=(*found.tools, FIND)) if is_routed else found
        by_name = {spec.name: spec for spec in found.tools}
        missing = [name for name in self._agent.tools if name not in by_name]
        if missing and not found.problems:
            raise ConfigError(
                f"The agent {self._agent.name!r} names tools that no server offers: "
                f"{', '.join(missing)}.",
                hint="See `corral mcp list` for the tools that there are.",
            )
        chosen = tuple(by_name[name] for name in self._agent.tools if name in by_name)
        return Catalog(tools=chosen, problems=found.problems)

    async def choose(self, specs: tuple[ToolSpec, ...], wanted: Wanted) -> list[str]:
        """The names of the tools that are offered for what is wanted."""
        return await asyncio.to_thread(self._router.choose, specs, wanted)

    async def call(self, spec: ToolSpec, args: JsonObject, options: CallOptions) -> ToolResult:
        """See ``ToolPool.call``."""
        return await self._pool.call(spec, args, options)

    async def _search(self, query: str, count: int) -> list[ToolSpec]:
        catalog = self._catalog or await self._pool.catalog()
        best = await asyncio.to_thread(self._router.best, catalog.tools, query, count)
        by_name = {spec.name: spec for spec in catalog.tools}
        return [by_name[name] for name in best]

    async def warm(self) -> None:
        """Start the servers."""
        await self._pool.catalog()


@dataclass(frozen=True)
class AgentServices:
    """``Services`` of one agent.

    ``roles`` are those of its sub-agents that have a part in its pattern's work. They are no tools
    of its own, unless its ``tools`` name them.
    """

    shared: Shared
    agent: Agent
    model_ref: str
    build: Callable[[AgentServices], Program]
    roles: frozenset[str] = frozenset()

    @property
    def agent_name(self) -> str:
        """The agent's name."""
        return self.agent.name

    @property
    def model(self) -> ChatModel:
        """The agent's model, opened at the first use."""
        own = self.agent.chat_model
        return self.shared.shown(own) if own else self.shared.model(self.model_ref)

    def open_model(self) -> None:
        """Open the model, without loading it. Raises for a missing file, script or key."""
        assert self.model is not None

    @property
    def tools(self) -> AgentTools:
        """The agent's tools."""
        return self._tools

    @cached_property
    def _tools(self) -> AgentTools:
        named = self.agent.tools or ()
        workers = [
            one
            for one in self.agent.members
            if one.name not in self.roles or delegating.tool_name(one.name) in named
        ]
        return AgentTools(self.shared, self.agent, workers, lambda: self.preview)

    @property
    def memory(self) -> MemoryStore:
        """The long-term memory."""
        return self.shared.memory

    @property
    def tool_timeout(self) -> float:
        """Seconds that a tool call may take."""
        return self.shared.settings.tool_timeout

    def sub_agent(self, name: str, **changed: Any) -> SubAgent:
        """An agent that this one may give tasks to, with fields of it ``changed``.

        Raises ``NotFoundError``.
        """
        for agent in self.agent.members:
            if agent.name == name:
                return _SubAgent(self, agent.model_copy(update=changed) if changed else agent)
        known = ", ".join(agent.name for agent in self.agent.members) or "none"
        raise NotFoundError(
            f"The agent {self.agent.name!r} has no sub-agent {name!r}.",
            hint=f"Its sub-agents are: {known}. Add it to Agent(agents=(…)).",
        )

    @property
    def preview(self) -> int:
        """Characters of a long result that the model is shown at first."""
        return preview_limit(self.shared.settings.tool_preview, self.model.context_window)

    @property
    def checks(self) -> tuple[Bound, ...]:
        """What looks at what goes into the agent and comes out of it."""
        return self._checks

    @cached_property
    def _checks(self) -> tuple[Bound, ...]:
        return bound(self.agent.checks, self)

    def judge(self, model: str | None) -> AgentServices:
        """See ``Services.judge``."""
        if model is None:
            return self
        agent = self.agent.model_copy(update={"chat_model": None})
        return replace(self, agent=agent, model_ref=model)

    def sampling(self, wanted: Sample) -> Effect:
        """See ``Services.sampling``."""
        return sampling_effect(wanted, self)

    def delegation(self, spec: ToolSpec, use: ToolUse) -> Effect | None:
        """See ``Services.delegation``."""
        match spec.server:
            case delegating.SERVER:
                to = self.sub_agent(spec.tool)
                task = Task(str(use.args["task"]), tuple(use.history))
                return delegating.delegation(to, task, use.id)
            case handoff.SERVER:
                return handoff.handing_over(spec, use.args, use.id)
            case _:
                return None

    async def warm_model(self) -> None:
        """Load the model, if it is one that loads."""
        model = asked_first(self.model)
        if isinstance(model, LocalModel):
            await model.warm()


@dataclass(frozen=True)
class _SubAgent:
    """A ``SubAgent`` of the agent whose services are ``outer``."""

    outer: AgentServices
    agent: Agent

    @property
    def spec(self) -> ToolSpec:
        return delegating.as_tool(self.agent.name, self.agent.description)

    @property
    def typed(self) -> TypedAnswer | None:
        return self.agent.typed

    def program(self) -> Program:
        model = self.agent.model or self.outer.model_ref
        return self.outer.build(replace(self.outer, agent=self.agent, model_ref=model))


def _offering(settings: ToolsSettings, agent: Agent) -> ToolsSettings:
    """How tools are offered to an agent, which may have its own number."""
    own = agent.offered
    return settings if own is None else settings.model_copy(update={"offered": own})
