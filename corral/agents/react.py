"""ReAct (Yao et al. 2023, arXiv:2210.03629): the model acts through tools until it answers.

    START ─► model ─► tools (one task per call) ─► model ─► … ─► END

The graph is pure: all that it does to the world it does through ``perform``. Budgets, approvals,
exactly-once, the trace and replay are stations of the door and appear nowhere in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Annotated, Any, TypedDict, assert_never

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.messages.tool import ToolCall
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

from corral.agents.reducer import add_messages
from corral.agents.spec import DEFAULT_INSTRUCTIONS, Agent
from corral.agents.typed_answer import asks_again
from corral.memory.compaction import (
    accept_summary,
    estimate_tokens,
    message_budget,
    plan,
    summary_request,
)
from corral.memory.labelled import labelled
from corral.memory.store import facts_message
from corral.memory.view import ThreadView
from corral.policies.provenance.labels import PUBLIC, Label
from corral.runtime.asking import Ask, ask_model
from corral.runtime.calls import Services, Setting, prepare, recall_facts, use_tool
from corral.runtime.checking import admitted
from corral.runtime.models.contract import Sampling, ToolChoice
from corral.runtime.program import State, asked, last_answer

VERSION = "react/1"

_SNAPSHOT_EVERY = 1000  # updates of a thread between full copies of its messages


class ReactState(TypedDict, total=False):
    """A thread: every message, and the summary that stands for the first ``covered`` of them."""

    messages: Annotated[
        list[AnyMessage],
        DeltaChannel(add_messages, snapshot_frequency=_SNAPSHOT_EVERY),
    ]
    summary: str
    covered: int


class ToolTask(TypedDict):
    """The input of one tool task: a call, and the id of the message with its result."""

    call: ToolCall
    result_id: str


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


@lru_cache(maxsize=64)
def _system(text: str, label: Label) -> tuple[SystemMessage, int]:
    """The system message with this text, and its tokens: the same one at every step."""
    message = labelled(SystemMessage(text), label)
    return message, estimate_tokens([message])


@dataclass(frozen=True)
class ReactProgram:
    """An agent as a ReAct graph, ready for the engine."""

    agent: Agent
    model: str
    services: Services
    view: ThreadView = field(default_factory=ThreadView, compare=False)

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
        answer = last_answer(state.get("messages", ()))
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
    def _sampling(self) -> Sampling:
        return Sampling(**self.agent.sampling.model_dump())

    def graph(self) -> StateGraph[Any, Any, Any, Any]:
        """The run loop."""
        graph = StateGraph(ReactState)
        graph.add_node("model", self._call_model, destinations=("model", "tools", END))
        graph.add_node("tools", self._call_tool, input_schema=ToolTask)
        graph.add_edge(START, "model")
        graph.add_edge("tools", "model")
        return graph

    async def _call_model(self, state: ReactState) -> Command[str]:
        setting = await prepare(self.agent.name, self.model, self.services)
        prompt, compacted = await self._prompt(state, setting)
        choice = self._tool_choice(state["messages"])
        tools = () if choice == "none" else setting.tools
        ask = Ask(
            model=self.model,
            messages=prompt,
            tools=tools,
            tools_digest=setting.tools_digest if tools else "",
            tool_choice=choice,
            sampling=self._sampling,
            shape=self.agent.typed.output if self.agent.typed else None,
            reasoning=self.agent.reasoning,
        )
        answer = await ask_model(ask, self.services)
        update: ReactState = {"messages": [answer], **compacted}
        match next_step(answer):
            case Answer():
                typed = self.agent.typed
                again = typed.again(state["messages"], answer) if typed else None
                if again is None:
                    return Command(update=update, goto=END)
                update["messages"] = [answer, again]
                return Command(update=update, goto="model")
            case CallTools(calls):
                tasks = [
                    ToolTask(call=call, result_id=f"{answer.id}/{index}")
                    for index, call in enumerate(calls)
                ]
                return Command(update=update, goto=[Send("tools", task) for task in tasks])
            case other:
                assert_never(other)

    async def _call_tool(self, state: ToolTask) -> ReactState:
        setting = await prepare(self.agent.name, self.model, self.services)
        call, result_id = dict(state["call"]), state["result_id"]
        return {"messages": [await use_tool(call, setting, self.services, message_id=result_id)]}

    async def _prompt(
        self, state: ReactState, setting: Setting
    ) -> tuple[list[BaseMessage], ReactState]:
        """What the model is sent, and the state update of a compaction that it needed."""
        messages: list[BaseMessage] = list(state["messages"])
        system, tokens = _system(*await self._instructions(messages))
        overhead = tokens + setting.definition_tokens
        budget = message_budget(setting.context_window, overhead=overhead)
        summary, covered = state.get("summary"), state.get("covered", 0)
        seen = self.view.grown(messages, covered, budget)
        if seen is not None:
            return [system, *seen], {}
        compacted: ReactState = {}
        while compaction := plan(messages, summary, budget, covered=covered):
            request = Ask(self.model, summary_request(compaction), purpose="summary")
            answer = await ask_model(request, self.services)
            summary, covered = accept_summary(compaction, str(answer.text)), compaction.covered
            compacted = {"summary": summary, "covered": covered}
        return [system, *self.view.whole(messages, summary, covered, budget)], compacted

    async def _instructions(self, messages: list[BaseMessage]) -> tuple[str, Label]:
        """The agent's instructions with what is remembered, and the label of that."""
        instructions = self.agent.instructions or DEFAULT_INSTRUCTIONS
        if self.agent.typed is not None:
            instructions = f"{instructions}\n\n{self.agent.typed.instructions}"
        if not self.agent.facts:
            return instructions, PUBLIC

        def query() -> str:
            return str(next(m for m in reversed(messages) if isinstance(m, HumanMessage)).text)

        facts = await recall_facts(query, self.agent.facts, self.services)
        notes = facts_message(facts)
        label = PUBLIC.join(*(fact.provenance for fact in facts))
        return (f"{instructions}\n\n{notes}" if notes else instructions), label

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
