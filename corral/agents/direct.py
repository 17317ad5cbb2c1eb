"""One tool call as a run of its own: policy, approval, journal and trace, and no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from langchain_core.messages import ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph

from corral.agents.programs import build_program
from corral.agents.services import AgentServices
from corral.agents.spec import Agent
from corral.errors import RunError, UsageError
from corral.jsontypes import JsonObject, canonical
from corral.policies.redaction import Redactor
from corral.runtime.calls import Setting, ToolUse, use_tool
from corral.runtime.checking import admitted
from corral.runtime.context import current_run, perform
from corral.runtime.effects import Attempt, Effect, Outcome
from corral.runtime.events import Notice
from corral.runtime.nested import scoped
from corral.runtime.program import Program, State, asked
from corral.tools.contract import SEPARATOR, ToolSpec

_SPEC = "call"
_VERSION = "call/1"


@dataclass(frozen=True)
class ToolCall:
    """A tool by the name that models know it by (``SERVER__TOOL``), and its arguments."""

    tool: str
    args: JsonObject

    @property
    def server(self) -> str:
        """Whose tool it is. Raises ``UsageError`` for what is no tool's name."""
        server, separator, tool = self.tool.partition(SEPARATOR)
        if not (separator and server and tool):
            raise UsageError(
                f"{self.tool!r} is no tool's name.",
                hint=f"Write SERVER{SEPARATOR}TOOL; `corral mcp list` shows them.",
            )
        return server

    @property
    def prompt(self) -> str:
        """The call as the request that the run has."""
        return f"{self.tool} {canonical(self.args)}"

    def agent(self) -> Agent:
        """In whose name it is made."""
        return Agent(name="call", servers=(self.server,), offered=0, facts=0)

    def redacted(self, redactor: Redactor) -> Self:
        """The call as it may be stored."""
        args = redactor.json(self.args)
        assert isinstance(args, dict)
        return replace(self, args=args)

    def to_spec(self) -> JsonObject:
        """What is stored with the run."""
        return {_SPEC: {"tool": self.tool, "args": self.args}}

    @staticmethod
    def kept(spec: JsonObject) -> JsonObject:
        """The part of a run's stored spec that says which call it is; empty for an agent's."""
        return {_SPEC: spec[_SPEC]} if _SPEC in spec else {}


def program_of(services: AgentServices, spec: JsonObject) -> Program:
    """What a run executes: its agent's graph, or the one call that its stored ``spec`` names."""
    if _SPEC in spec:
        return CallProgram(ToolCall(**spec[_SPEC]), services)
    return build_program(services)


@dataclass(frozen=True)
class CallProgram:
    """A graph of one node that makes one call. It fails where the call does."""

    call: ToolCall
    services: AgentServices

    @property
    def name(self) -> str:
        """In whose name the call is made."""
        return self.services.agent_name

    @property
    def model(self) -> str:
        """Nothing is asked of it."""
        return self.services.model_ref

    @property
    def version(self) -> str:
        """See ``Program.version``."""
        return _VERSION

    async def prepare(self) -> None:
        """See ``Program.prepare``."""

    async def admit(self, prompt: str) -> str:
        """See ``Program.admit``."""
        return await admitted(prompt, self.services.checks)

    def graph(self) -> StateGraph[Any, Any, Any, Any]:
        """See ``Program.graph``."""
        graph = StateGraph(MessagesState)
        graph.add_node("call", self._make)
        graph.add_edge(START, "call")
        graph.add_edge("call", END)
        return scoped(graph)

    async def _make(self, state: MessagesState) -> State:
        del state  # the call is part of the run
        use = ToolUse(
            {"name": self.call.tool, "args": self.call.args, "id": "call"},
            f"{current_run.get().run}:result",
        )
        used = await use_tool(use, await self._setting(), self.services)
        if used.value["is_error"]:
            raise RunError(str(used.value["text"]))
        return {"messages": [used.message]}

    async def _setting(self) -> Setting:
        """The one tool, as it was found when the run began."""

        async def execute(_attempt: Attempt) -> Outcome:
            catalog = await self.services.tools.catalog()
            for problem in catalog.problems:
                current_run.get().emit(Notice(problem))
            found = catalog.find(self.call.tool)
            tools = [found.to_json()] if found else []
            others = [] if found else [tool.tool for tool in catalog.tools]
            problems = list(catalog.problems)
            return Outcome({"tools": tools, "others": others, "problems": problems})

        request = {"agent": self.name, "tool": self.call.tool}
        value = (await perform(Effect("prepare", self.name, request, execute))).value
        tools = tuple(ToolSpec.from_json(spec) for spec in value["tools"])
        if not tools:
            raise RunError("\n".join(value["problems"]) or self._missing(value["others"]))
        return Setting(tools=tools, context_window=0)

    def _missing(self, others: Sequence[str]) -> str:
        names = ", ".join(others) or "none"
        return f"There is no tool {self.call.tool!r}. The tools of {self.call.server} are: {names}."

    def initial(self, prompt: str, run: str) -> State:
        """See ``Program.initial``."""
        return {"messages": [asked(prompt, run)]}

    def output(self, state: State) -> str:
        """The text of the result; empty until there is one."""
        messages = state.get("messages", ())
        newest = messages[-1] if messages else None
        return str(newest.text) if isinstance(newest, ToolMessage) else ""

    def check_complete(self, turns: int) -> None:
        """A call asks no model."""
