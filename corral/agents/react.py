"""ReAct (Yao et al. 2023, arXiv:2210.03629): the model acts through tools until it answers.

    START ─► model ─► tools (one task per call) ─► model ─► … ─► (verify) ─► END

It ends with an answer, a handoff or a limit. With ``verify`` an answer that has a fault is asked
for again (``corral.agents.verification``).

The graph is pure: all that it does to the world it does through ``perform``. Budgets, approvals,
exactly-once, the trace and replay are stations of the door and appear nowhere in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NotRequired, Protocol, TypedDict, assert_never

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langchain_core.messages.tool import ToolCall
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send
from pydantic import Field

from corral.agents.delegation import SERVER as AGENTS
from corral.agents.handoff import handed_over
from corral.agents.history import History, shown
from corral.agents.patterns.options import Options
from corral.agents.prompting import Prompting, ReactState
from corral.agents.spec import Agent
from corral.agents.toolset import kept, with_tools
from corral.agents.typed_answer import asks_again
from corral.memory.view import ThreadView
from corral.runtime.asking import Ask, answered
from corral.runtime.calls import Services, ToolUse, prepare, use_tool
from corral.runtime.checking import admitted
from corral.runtime.models.contract import Sampling, ToolChoice
from corral.runtime.nested import empty_graph
from corral.runtime.previews import Reading
from corral.runtime.program import State, asked, last_answer
from corral.tools.contract import SEPARATOR

VERSION = "react/1"


class ReactOptions(Options):
    """The options of the loop."""

    history: History = Field(
        default="nothing", description="What sub-agents see of the conversation."
    )
    verify: int = Field(
        default=0, ge=0, le=5, description="Checks of the answer at most, each may ask for another."
    )
    verifier: str = Field(
        default="", description="The sub-agent that checks; the agent itself when left out."
    )

    def roles(self) -> Iterator[str]:
        """The verifier."""
        yield from filter(None, (self.verifier,))


_TO_AGENTS = f"{AGENTS}{SEPARATOR}"


class ToolTask(TypedDict):
    """The input of one tool task: a call, and the id of the message with its result.

    ``history`` is what a sub-agent sees of the thread before its task.
    """

    call: ToolCall
    result_id: str
    history: NotRequired[list[BaseMessage]]


@dataclass(frozen=True)
class Answer:
    """The model has answered: the run ends."""


@dataclass(frozen=True)
class CallTools:
    """The model wants these calls made, all at once."""

    calls: tuple[ToolCall, ...]


def next_step(message: AIMessage) -> Answer | CallTools:
    """What comes after a message of the model's."""
    return CallTools(tuple(message.tool_calls)) if message.tool_calls else Answer()


class Verify(Protocol):
    """The node that an answer comes to, which goes on to the model or to the end."""

    async def __call__(self, state: ReactState) -> Command[str]:
        """Look at the newest answer."""
        ...


@dataclass(frozen=True)
class ReactProgram:
    """An agent as a ReAct graph, ready for the engine."""

    agent: Agent
    model: str
    services: Services
    options: ReactOptions = field(default_factory=ReactOptions)
    aloud: bool = True
    verify: Verify | None = None
    view: ThreadView = field(default_factory=ThreadView, compare=False)
    reading: Reading = field(default_factory=Reading, compare=False)

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.agent.name

    @property
    def version(self) -> str:
        """See ``Program.version``."""
        return VERSION

    def initial(self, prompt: str, run: str) -> State:
        """The user's message, with an id that is the same however often the run starts."""
        return {"messages": [asked(prompt, run)]}

    def output(self, state: State) -> str:
        """The text of the newest answer since the user's last message."""
        messages = state.get("messages", ())
        answer = last_answer([one for one in messages if not asks_again(one)])
        return self.agent.typed.settle(answer)[0] if self.agent.typed else answer

    def check_complete(self, turns: int) -> None:
        """A scripted model with turns left over raises here."""
        self.services.model.check_complete(turns)

    async def prepare(self) -> None:
        """See ``Program.prepare``."""
        await prepare(self.agent.name, self.model, self.services)

    async def admit(self, prompt: str) -> str:
        """See ``Program.admit``."""
        return await admitted(prompt, self.services.checks)

    @cached_property
    def _prompting(self) -> Prompting:
        return Prompting(self.agent, self.model, self.services, self.view)

    @cached_property
    def _sampling(self) -> Sampling:
        return Sampling(**self.agent.sampling.model_dump())

    def graph(self) -> StateGraph[Any, Any, Any, Any]:
        """The run loop."""
        graph = empty_graph(ReactState, ToolTask)
        # LangGraph searches the code of plain functions for graphs in it, which takes milliseconds.
        last = "verify" if self.verify else END
        graph.add_node("model", partial(self._call_model), destinations=("model", "tools", last))
        graph.add_node("tools", partial(self._call_tool), input_schema=ToolTask)
        graph.add_edge(START, "model")
        graph.add_edge("tools", "model")
        if self.verify:
            graph.add_node("verify", partial(self.verify), destinations=("model", END))
        return graph

    async def _call_model(self, state: ReactState) -> Command[str]:
        if state.get("handoff"):
            return Command(goto=END)
        setting = await prepare(self.agent.name, self.model, self.services)
        setting = await with_tools(state, setting, self.services)
        prompt, compacted = await self._prompting.request(state, setting)
        choice = self._tool_choice(state["messages"])
        tools = (
            () if choice == "none" else (*setting.offered, *self.reading.tools(state["messages"]))
        )
        ask = Ask(
            model=self.model,
            messages=prompt.messages,
            tokens=prompt.tokens,
            tools=tools,
            tools_digest=setting.tools_digest if tools else "",
            tool_choice=choice,
            sampling=self._sampling,
            shape=self.agent.typed.output if self.agent.typed else None,
            reasoning=self.agent.reasoning,
            aloud=self.aloud,
        )
        said = await answered(ask, self.services)
        answer = said.message
        update: ReactState = {"messages": [answer], **compacted, **kept(setting)}
        if self.agent.sampling.logprobs is not None:
            update["confidence"] = said.probability
        match next_step(answer):
            case Answer():
                typed = self.agent.typed
                again = typed.again(state["messages"], answer) if typed else None
                if again is None:
                    return Command(update=update, goto="verify" if self.verify else END)
                update["messages"] = [answer, again]
                return Command(update=update, goto="model")
            case CallTools(calls):
                tasks = await self._tasks(calls, answer, state["messages"])
                return Command(update=update, goto=[Send("tools", task) for task in tasks])
            case other:
                assert_never(other)

    async def _tasks(
        self, calls: Sequence[ToolCall], answer: AIMessage, messages: Sequence[BaseMessage]
    ) -> list[ToolTask]:
        tasks = [
            ToolTask(call=call, result_id=f"{answer.id}/{index}")
            for index, call in enumerate(calls)
        ]
        delegated = [task for task in tasks if task["call"]["name"].startswith(_TO_AGENTS)]
        if delegated and self.options.history != "nothing":
            history = await shown(self.options.history, messages, self.model, self.services)
            for task in delegated:
                task["history"] = list(history)
        return tasks

    async def _call_tool(self, state: ToolTask) -> ReactState:
        setting = await prepare(self.agent.name, self.model, self.services)
        use = ToolUse(dict(state["call"]), state["result_id"], state.get("history", ()))
        used = await use_tool(use, setting, self.services)
        handoff = handed_over(setting.tool(use.name), used.value)
        if handoff is None:
            return {"messages": [used.message]}
        return {"messages": [used.message], "handoff": handoff.to_json()}

    def _tool_choice(self, messages: list[AnyMessage]) -> ToolChoice:
        match self.agent.tool_choice:
            case "auto" | "none" as choice:
                return choice
            case "first":
                newest = messages[-1]
                begins = isinstance(newest, HumanMessage) and not asks_again(newest)
                return "required" if begins else "none"
            case other:
                assert_never(other)
