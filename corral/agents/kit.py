"""What an agent's own graph works with: the model, tools and sub-agents, all through the door.

def build(kit: corral.Kit) -> StateGraph:
    async def answer(state):
        return {"messages": [await kit.ask(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    return graph

agent = corral.Agent(name="mine", graph=build)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.graph import StateGraph

from corral.agents.delegation import delegate
from corral.agents.services import AgentServices
from corral.agents.spec import Agent
from corral.errors import UsageError
from corral.jsontypes import Json, JsonObject, canonical, digest
from corral.memory.labelled import labelled
from corral.policies.provenance.labels import PUBLIC
from corral.runtime.asking import Ask, answered, ask_model
from corral.runtime.calls import prepare, use_tool
from corral.runtime.checking import admitted
from corral.runtime.context import current_run, perform
from corral.runtime.effects import Attempt, Effect, Outcome
from corral.runtime.models.contract import Sampling
from corral.runtime.models.structured import RETRIES, Answered, Extracted, Shape, structured
from corral.runtime.nested import scoped
from corral.runtime.program import State, asked, last_answer

T = TypeVar("T")


@dataclass(frozen=True)
class Kit:
    """The effects of one agent. Usable only inside of a node of its graph."""

    agent: Agent
    services: AgentServices

    @overload
    async def ask(self, messages: Sequence[BaseMessage], *, tools: bool = True) -> AIMessage: ...

    @overload
    async def ask(
        self, messages: Sequence[BaseMessage], *, returns: type[T], retries: int = RETRIES
    ) -> T: ...

    async def ask(
        self,
        messages: Sequence[BaseMessage],
        *,
        tools: bool = True,
        returns: type[T] | None = None,
        retries: int = RETRIES,
    ) -> AIMessage | T:
        """Ask the agent's model, after its instructions. Raises ``ModelError``.

        With ``returns``, a pydantic model or another type that pydantic validates, the answer is a
        value of it, and no tools are offered. A model that can be held to the type is. An answer
        that does not fit is asked for again with the error, ``retries`` times at most; every try is
        an effect.
        """
        if returns is not None:
            shape: Shape[T] = Shape.of(returns)
            return (await self.extract(messages, shape, retries=retries)).value
        setting = await prepare(self.agent.name, self.services.model_ref, self.services)
        typed = self.agent.typed
        ask = replace(
            self._ask(messages, typed.instructions if typed else None),
            tools=setting.tools if tools else (),
            tools_digest=setting.tools_digest if tools else "",
            shape=typed.output if typed else None,
        )
        return await ask_model(ask, self.services)

    async def extract(
        self, messages: Sequence[BaseMessage], shape: Shape[T], *, retries: int = RETRIES
    ) -> Extracted[T]:
        """``ask`` for a value, with the message that it came in."""
        await prepare(self.agent.name, self.services.model_ref, self.services)

        async def ask(again: Sequence[BaseMessage]) -> Answered:
            ask = replace(self._ask([*messages, *again]), output=shape.output)
            return await answered(ask, self.services)

        return await structured(shape, ask, retries=retries)

    def _ask(self, messages: Sequence[BaseMessage], more: str | None = None) -> Ask:
        """Asking the agent's model without tools; ``more`` comes after its instructions."""
        text = "\n\n".join(filter(None, (self.agent.instructions, more)))
        head = [labelled(SystemMessage(text), PUBLIC)] if text else []
        return Ask(
            model=self.services.model_ref,
            messages=[*head, *messages],
            sampling=Sampling(**self.agent.sampling.model_dump()),
            reasoning=self.agent.reasoning,
        )

    async def call(self, call: JsonObject) -> ToolMessage:
        """Make one tool call (``name``, ``args``, ``id``) of a model's message."""
        setting = await prepare(self.agent.name, self.services.model_ref, self.services)
        message_id = f"{current_run.get().run}:{call.get('id') or digest(call)[:16]}"
        return await use_tool(call, setting, self.services, message_id=message_id)

    async def delegate(self, agent: Agent | str, task: str) -> str:
        """Let one of the agent's sub-agents (``Agent.agents``) do a task, and return its answer."""
        name = agent if isinstance(agent, str) else agent.name
        return (await delegate(self.services.sub_agent(name), task)).text

    async def step(self, name: str, function: Callable[[], Json | Awaitable[Json]]) -> Json:
        """See ``step``."""
        return await step(name, function)


async def step(name: str, function: Callable[[], Json | Awaitable[Json]]) -> Json:
    """What ``function`` gives, once: the clock, a random choice, anything that differs next time.

    Its result, which must be JSON, is journaled; a resume and a replay get that. A run that is
    killed meanwhile calls it again, so what must not happen twice belongs into a tool.
    """

    async def execute(_attempt: Attempt) -> Outcome:
        value = function()
        given = await value if isinstance(value, Awaitable) else value
        try:
            canonical(given)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"The step {name!r} gave a {type(given).__name__}, which is not JSON: {error}.",
                hint="Return text, numbers, lists or dictionaries of these.",
            ) from error
        return Outcome({"value": given})

    given = await perform(Effect("value", name, {"name": name}, execute))
    value: Json = given.value["value"]
    return value


@dataclass(frozen=True)
class GraphProgram:
    """An agent whose graph the caller has built, ready for the engine.

    Its state has ``messages``, as LangGraph's ``MessagesState``: the prompt is the first new one,
    and the last text of the model's is the answer.
    """

    kit: Kit

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.kit.agent.name

    @property
    def model(self) -> str:
        """The reference of the agent's model."""
        return self.kit.services.model_ref

    @property
    def version(self) -> str:
        """One for all: a replay and a resume say where changed code asks for something else."""
        return "own/1"

    async def prepare(self) -> None:
        """See ``Program.prepare``: before a node can ask for several things at once."""
        await prepare(self.name, self.model, self.kit.services)

    async def admit(self, prompt: str) -> str:
        """See ``Program.admit``."""
        return await admitted(prompt, self.kit.services.checks)

    def graph(self) -> StateGraph[Any, Any, Any, Any]:
        """The caller's graph."""
        assert self.kit.agent.graph is not None
        return scoped(self.kit.agent.graph(self.kit))

    def initial(self, prompt: str, run: str) -> State:
        """The user's message, with an id that is the same however often the run starts."""
        return {"messages": [asked(prompt, run)]}

    def output(self, state: State) -> str:
        """The text of the newest answer since the user's last message."""
        answer = last_answer(state.get("messages", ()))
        typed = self.kit.agent.typed
        return typed.settle(answer)[0] if typed else answer

    def check_complete(self, turns: int) -> None:
        """A scripted model with turns left over raises here."""
        self.kit.services.model.check_complete(turns)
