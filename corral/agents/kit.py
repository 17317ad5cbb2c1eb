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

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage
from pydantic import TypeAdapter, ValidationError

from corral.agents.delegation import SERVER as TEAM
from corral.agents.delegation import Task, delegate
from corral.agents.handoff import Handoff, as_tool, handed_over, handing_over
from corral.agents.history import History, shown
from corral.agents.react import ReactProgram
from corral.agents.services import AgentServices
from corral.agents.spec import Agent
from corral.agents.typed_answer import answer_schema
from corral.errors import InvalidAnswer, UsageError
from corral.jsontypes import Json, JsonObject, canonical, digest
from corral.memory.compaction import estimate_tokens, message_budget, repair, visible
from corral.memory.labelled import labelled
from corral.policies.provenance.labels import KEY as LABEL
from corral.policies.provenance.labels import PUBLIC, Label
from corral.runtime.asking import Ask, answered, ask_model
from corral.runtime.calls import Setting, ToolUse, prepare, use_tool
from corral.runtime.context import current_run, perform
from corral.runtime.effects import Attempt, Effect, Outcome
from corral.runtime.models.contract import Sampling
from corral.runtime.models.structured import RETRIES, Answered, Extracted, Shape, structured
from corral.runtime.nested import subgraph
from corral.runtime.offering import newest_request, offered_for, with_found
from corral.runtime.previews import readers

T = TypeVar("T")


@dataclass(frozen=True)
class Kit:
    """The effects of one agent. Usable only inside of a node of its graph."""

    agent: Agent
    services: AgentServices

    @overload
    async def ask(
        self, messages: Sequence[BaseMessage], *, tools: bool = True, aloud: bool = True
    ) -> AIMessage: ...

    @overload
    async def ask(
        self, messages: Sequence[BaseMessage], *, returns: type[T], retries: int = RETRIES
    ) -> T: ...

    async def ask(
        self,
        messages: Sequence[BaseMessage],
        *,
        tools: bool = True,
        aloud: bool = True,
        returns: type[T] | None = None,
        retries: int = RETRIES,
    ) -> AIMessage | T:
        """Ask the agent's model, after its instructions. Raises ``ModelError``.

        What is not ``aloud`` is for the graph, and not shown as the answer while it is made.
        An agent whose answers have a type is asked again for one that does not fit.
        With ``returns``, a pydantic model or another type that pydantic validates, the answer is a
        value of it, and no tools are offered. A model that can be held to the type is. An answer
        that does not fit is asked for again with the error, ``retries`` times at most; every try is
        an effect.
        """
        if returns is not None:
            shape: Shape[T] = Shape.of(returns)
            return (await self.extract(messages, shape, retries=retries)).value
        setting = await prepare(self.agent.name, self.services.model_ref, self.services)
        if tools and setting.is_routed:
            request = newest_request(messages)
            setting = await offered_for(request, messages, setting, self.services)
            setting = with_found(setting, messages)
        typed = self.agent.typed
        asked = messages
        while True:
            ask = replace(
                self._ask(asked, setting, typed.instructions if typed else None),
                aloud=aloud,
                tools=(*setting.offered, *readers(messages)) if tools else (),
                tools_digest=setting.tools_digest if tools else "",
                shape=typed.output if typed else None,
            )
            answer = await ask_model(ask, self.services)
            again = typed.asked_again(asked, answer) if typed else None
            if again is None:
                return answer
            asked = again

    async def extract(
        self,
        messages: Sequence[BaseMessage],
        shape: Shape[T],
        *,
        retries: int = RETRIES,
        purpose: str = "answer",
    ) -> Extracted[T]:
        """``ask`` for a value, with the message that it came in."""
        setting = await prepare(self.agent.name, self.services.model_ref, self.services)

        async def ask(again: Sequence[BaseMessage]) -> Answered:
            request = self._ask([*messages, *again], setting)
            ask = replace(request, output=shape.output, aloud=False, purpose=purpose)
            return await answered(ask, self.services)

        return await structured(shape, ask, retries=retries)

    def _ask(
        self, messages: Sequence[BaseMessage], setting: Setting, more: str | None = None
    ) -> Ask:
        """Asking the agent's model without tools; ``more`` comes after its instructions.

        Messages that are too long for its context window are abridged.
        """
        text = "\n\n".join(filter(None, (self.agent.instructions, more)))
        head = [labelled(SystemMessage(text), PUBLIC)] if text else []
        return Ask(
            model=self.services.model_ref,
            messages=[*head, *_fitted(messages, setting, estimate_tokens(head))],
            sampling=Sampling(**self.agent.sampling.model_dump()),
            reasoning=self.agent.reasoning,
        )

    async def decide(
        self, messages: Sequence[BaseMessage], returns: type[T], *, retries: int = RETRIES
    ) -> T | None:
        """``ask`` for a decision of the graph's, which is not for the user.

        ``None`` when the model gives none that is valid: the graph then goes the safe way.
        """
        shape: Shape[T] = Shape.of(returns)
        try:
            given = await self.extract(messages, shape, retries=retries, purpose="decision")
        except InvalidAnswer:
            return None
        return given.value

    async def solve(self, messages: Sequence[BaseMessage], *, aloud: bool = True) -> AIMessage:
        """The agent's answer after it has used its tools, in a ReAct loop inside of this graph.

        ``aloud`` as in ``ask``.
        """
        loop = ReactProgram(self.agent, self.services.model_ref, self.services, aloud=aloud)
        state = await subgraph(loop.graph(), {"messages": list(messages)})
        answer = state["messages"][-1]
        assert isinstance(answer, AIMessage)
        return answer

    async def call(self, call: JsonObject) -> ToolMessage:
        """Make one tool call (``name``, ``args``, ``id``) of a model's message."""
        return (await self.use(call)).message

    async def use(self, call: JsonObject, *, history: Sequence[BaseMessage] = ()) -> Use:
        """``call``, with what else came of it. A sub-agent sees ``history`` before its task."""
        setting = await prepare(self.agent.name, self.services.model_ref, self.services)
        message_id = f"{current_run.get().run}:{call.get('id') or digest(call)[:16]}"
        use = ToolUse(call, message_id, history)
        used = await use_tool(use, setting, self.services)
        spec = setting.tool(use.name)
        to = spec.tool if spec is not None and spec.server == TEAM else None
        return Use(
            used.message,
            report=None if to is None else _report(to, used.path, used.value),
            handoff=handed_over(spec, used.value),
        )

    async def delegate(self, agent: Agent | str, task: str) -> str:
        """Let one of the agent's sub-agents (``Agent.agents``) do a task, and return its answer."""
        name = agent if isinstance(agent, str) else agent.name
        return (await self.work(name, task)).text

    async def work(
        self,
        name: str,
        task: str,
        *,
        history: Sequence[BaseMessage] = (),
        returns: type[Any] | JsonObject | None = None,
        handoffs: Mapping[str, str] | None = None,
    ) -> Report:
        """Let a sub-agent do a task, after the messages of ``history``.

        ``returns`` is the type of its answer, or that type's JSON Schema. ``handoffs`` are the
        agents that it may let take over, and when. Raises ``NotFoundError`` for one that is not in
        the team.
        """
        given = {"returns": None if returns is None else answer_schema(returns)}
        changed = {**(given if returns else {}), **({"handoffs": handoffs} if handoffs else {})}
        to = self.services.sub_agent(name, **changed)
        path, done = await delegate(to, Task(task, tuple(history)))
        return _report(name, path, done)

    async def hand_over(self, to: str, message: str) -> Handoff | None:
        """Let another take over, as a call of ``handoff__NAME`` does; ``None``: it was refused."""
        spec = as_tool(to, "")
        effect = handing_over(spec, {"message": message}, call_id="")
        done = await perform(replace(effect, checks=self.services.checks))
        return handed_over(spec, done.value)

    async def shown(
        self, history: History, messages: Sequence[BaseMessage]
    ) -> tuple[BaseMessage, ...]:
        """What a sub-agent is to see of a conversation, for ``work``."""
        return await shown(history, messages, self.services.model_ref, self.services)

    @property
    def untyped(self) -> Kit:
        """The kit for what is not the agent's answer yet, and need not be of its type."""
        return replace(self, agent=self.agent.model_copy(update={"returns": None}))

    @property
    def team(self) -> tuple[Agent, ...]:
        """The agent's sub-agents."""
        return self.agent.members

    async def step(self, name: str, function: Callable[[], Json | Awaitable[Json]]) -> Json:
        """See ``step``."""
        return await step(name, function)


@dataclass(frozen=True)
class Report:
    """What a sub-agent gave: its answer, or why there is none.

    ``message`` is the answer as a message, with its label. With a ``handoff`` another is to go on.
    ``confidence`` is the mean probability of the answer's tokens, known of a ReAct agent whose
    ``sampling.logprobs`` asks for it.
    """

    agent: str
    is_error: bool
    message: AIMessage
    handoff: Handoff | None = None
    confidence: float | None = None

    @property
    def text(self) -> str:
        """The answer."""
        return str(self.message.text)

    def value(self, returns: type[T]) -> T | None:
        """The answer as a value of the type that was asked for; ``None`` when it is none."""
        if self.is_error:
            return None
        try:
            return TypeAdapter(returns).validate_json(self.text)
        except ValidationError:
            return None


@dataclass(frozen=True)
class Use:
    """A tool call that was made: the message with its result.

    ``report`` is that of the sub-agent that was given a task, ``handoff`` who takes over by it.
    """

    message: ToolMessage
    report: Report | None = None
    handoff: Handoff | None = None


def _report(name: str, path: str, done: JsonObject) -> Report:
    handoff = done.get("handoff")
    message = AIMessage(str(done["text"]), id=f"{current_run.get().run}:{path}", name=name)
    return Report(
        agent=name,
        is_error=bool(done["is_error"]),
        message=labelled(message, Label.from_json(done.get(LABEL))),
        handoff=None if handoff is None else Handoff(**handoff),
        confidence=done.get("confidence"),
    )


def _fitted(
    messages: Sequence[BaseMessage], setting: Setting, instructions: int
) -> Sequence[BaseMessage]:
    overhead = instructions + setting.definition_tokens
    budget = message_budget(setting.context_window, overhead=overhead)
    if estimate_tokens(messages) <= budget:
        return messages
    return repair(visible(messages, None, 0, budget=budget))


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
