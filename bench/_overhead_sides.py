"""One agent in several frameworks: a scripted model that answers at once, and functions as tools.

Each side imports its framework when it is loaded, so that a process has only its own. A run is
``STEPS`` model calls that each ask for one call of the first tool, and an answer.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

STEPS = 10
PROMPT = "Double the numbers one after another."
DONE = "done"

Tool = Callable[..., Any]


class Side(ABC):
    """A framework, in a process of its own. Its tools are coroutine functions if it takes those."""

    takes_coroutines = True

    @abstractmethod
    def load(self) -> None:
        """Import it."""

    async def start(self, folder: Path) -> None:
        """Open what it keeps runs in, if it keeps any."""
        del folder

    async def stop(self) -> None:
        """Close what ``start`` has opened."""
        return

    @abstractmethod
    def make(self, tools: Sequence[Tool]) -> Any:
        """Build an agent that is ready to be run."""

    @abstractmethod
    async def run(self, agent: Any) -> str:
        """One run from a new conversation; its answer."""


def turn(number: int, tool: str) -> tuple[str, dict[str, Any] | None]:
    """The model's answer number ``number`` (from 0): its text and its call, if it makes one."""
    if number >= STEPS:
        return DONE, None
    return f"Now {number}.", {"name": tool, "args": {"number": number}, "id": f"call-{number}"}


def turns(tool: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """All answers of a run, for a model that is not shown how far it is."""
    return (turn(number, tool) for number in range(STEPS + 1))


class StateGraphSide(Side):
    """Plain LangGraph, as its tutorials write a tool loop. Nothing is kept."""

    def load(self) -> None:
        from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
        from langgraph.graph import END, START, MessagesState, StateGraph

        self.ai, self.human, self.tool = AIMessage, HumanMessage, ToolMessage
        self.first, self.end = START, END
        self.state, self.graph = MessagesState, StateGraph

    def make(self, tools: Sequence[Tool]) -> Any:
        by_name = {tool.__name__: tool for tool in tools}
        first = tools[0].__name__

        async def model(state: Any) -> dict[str, Any]:
            text, call = turn(len(state["messages"]) // 2, first)
            return {"messages": [self.ai(text, tool_calls=[call] if call else [])]}

        async def act(state: Any) -> dict[str, Any]:
            calls = state["messages"][-1].tool_calls
            results = [(call, await by_name[call["name"]](**call["args"])) for call in calls]
            return {
                "messages": [self.tool(str(got), tool_call_id=call["id"]) for call, got in results]
            }

        def route(state: Any) -> str:
            return "tools" if state["messages"][-1].tool_calls else self.end

        graph = self.graph(self.state)
        graph.add_node("model", model)
        graph.add_node("tools", act)
        graph.add_edge(self.first, "model")
        graph.add_conditional_edges("model", route, ["tools", self.end])
        graph.add_edge("tools", "model")
        return graph.compile()

    async def run(self, agent: Any) -> str:
        state = await agent.ainvoke({"messages": [self.human(PROMPT)]}, {"recursion_limit": 100})
        return str(state["messages"][-1].text)


class CreateAgentSide(Side):
    """LangChain's prebuilt agent. Nothing is kept."""

    def load(self) -> None:
        from langchain.agents import create_agent
        from langchain_core.language_models import BaseChatModel
        from langchain_core.messages import AIMessage, HumanMessage
        from langchain_core.outputs import ChatGeneration, ChatResult

        class Instant(BaseChatModel):
            tool: str

            @property
            def _llm_type(self) -> str:
                return "instant"

            def bind_tools(self, tools: Any, **kwargs: Any) -> Any:  # noqa: ARG002  the base class names them
                return self

            def _generate(self, messages: list[Any], *_args: Any, **_options: Any) -> Any:
                text, call = turn(len(messages) // 2, self.tool)
                message = AIMessage(text, tool_calls=[call] if call else [])
                return ChatResult(generations=[ChatGeneration(message=message)])

            async def _agenerate(self, messages: list[Any], *args: Any, **options: Any) -> Any:
                return self._generate(messages, *args, **options)

        self.create, self.model, self.human = create_agent, Instant, HumanMessage

    def make(self, tools: Sequence[Tool]) -> Any:
        return self.create(self.model(tool=tools[0].__name__), list(tools))

    async def run(self, agent: Any) -> str:
        state = await agent.ainvoke({"messages": [self.human(PROMPT)]}, {"recursion_limit": 100})
        return str(state["messages"][-1].text)


class PydanticAiSide(Side):
    """pydantic-ai. Nothing is kept."""

    def load(self) -> None:
        from pydantic_ai import Agent
        from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
        from pydantic_ai.models.function import FunctionModel
        from pydantic_ai.usage import UsageLimits

        self.agent, self.model, self.limits = Agent, FunctionModel, UsageLimits
        self.response, self.text, self.call = ModelResponse, TextPart, ToolCallPart

    def make(self, tools: Sequence[Tool]) -> Any:
        first = tools[0].__name__

        def answer(messages: list[Any], _info: Any) -> Any:
            text, call = turn(len(messages) // 2, first)
            calls = [self.call(call["name"], call["args"], call["id"])] if call else []
            return self.response(parts=[self.text(text), *calls])

        return self.agent(self.model(answer), tools=list(tools))

    async def run(self, agent: Any) -> str:
        result = await agent.run(PROMPT, usage_limits=self.limits(request_limit=None))
        return str(result.output)


class OpenAiAgentsSide(Side):
    """openai-agents, its tracing off. Nothing is kept."""

    def load(self) -> None:
        import agents
        from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage
        from openai.types.responses.response_output_text import ResponseOutputText

        class Instant(agents.Model):  # type: ignore[misc]  # its package is installed for benches only
            def __init__(self, tool: str) -> None:
                self.tool = tool

            async def get_response(self, *_args: Any, **asked: Any) -> Any:
                given = asked["input"]
                done = 0 if isinstance(given, str) else sum("output" in item for item in given)
                text, call = turn(done, self.tool)
                said = ResponseOutputText(text=text, type="output_text", annotations=[])
                output: list[Any] = [
                    ResponseOutputMessage(
                        id=f"m-{done}",
                        content=[said],
                        role="assistant",
                        status="completed",
                        type="message",
                    )
                ]
                if call:
                    output.append(
                        ResponseFunctionToolCall(
                            arguments=json.dumps(call["args"]),
                            call_id=call["id"],
                            name=call["name"],
                            type="function_call",
                        )
                    )
                return agents.ModelResponse(output=output, usage=agents.Usage(), response_id=None)

            def stream_response(self, *_args: Any, **_options: Any) -> Any:
                raise AssertionError("the benchmark does not stream")

        self.agents, self.model = agents, Instant
        self.config = agents.RunConfig(tracing_disabled=True)

    def make(self, tools: Sequence[Tool]) -> Any:
        return self.agents.Agent(
            name="loop",
            model=self.model(tools[0].__name__),
            tools=[self.agents.function_tool(tool) for tool in tools],
        )

    async def run(self, agent: Any) -> str:
        result = await self.agents.Runner.run(
            agent, PROMPT, max_turns=STEPS + 2, run_config=self.config
        )
        return str(result.final_output)


class AgnoSide(Side):
    """agno. Nothing is kept; it makes the tools' schemas when it runs."""

    def load(self) -> None:
        from agno.agent import Agent
        from agno.models.base import Model
        from agno.models.response import ModelResponse

        class Instant(Model):  # type: ignore[misc]  # its package is installed for benches only
            tool = ""

            def invoke(self, *_args: Any, **_options: Any) -> Any:
                raise AssertionError("the benchmark is asynchronous")

            async def ainvoke(self, messages: Any, *_args: Any, **_options: Any) -> Any:
                done = sum(message.role == "tool" for message in messages)
                text, call = turn(done, self.tool)
                if call is None:
                    return ModelResponse(role="assistant", content=text)
                function = {"name": call["name"], "arguments": json.dumps(call["args"])}
                calls = [{"id": call["id"], "type": "function", "function": function}]
                return ModelResponse(role="assistant", content=text, tool_calls=calls)

            invoke_stream = ainvoke_stream = invoke

            def _parse_provider_response(self, response: Any, **_options: Any) -> Any:
                return response

            def _parse_provider_response_delta(self, response: Any) -> Any:
                return response

        self.agent, self.model = Agent, Instant

    def make(self, tools: Sequence[Tool]) -> Any:
        model = self.model(id="instant")
        model.tool = tools[0].__name__
        return self.agent(model=model, tools=list(tools), telemetry=False)

    async def run(self, agent: Any) -> str:
        answered = await agent.arun(PROMPT)
        return str(answered.messages[-1].content)


class SmolagentsSide(Side):
    """smolagents. Nothing is kept; it is synchronous, and its answer is a call as well."""

    takes_coroutines = False

    def load(self) -> None:
        import smolagents
        from smolagents import models

        class Instant(smolagents.Model):  # type: ignore[misc]  # its package is installed for benches only
            def __init__(self, tool: str) -> None:
                super().__init__(model_id="instant")
                self.answers = turns(tool)
                self.tool = tool

            def generate(self, _messages: Any, *_args: Any, **_options: Any) -> Any:
                text, call = next(self.answers)
                call = call or {"name": "final_answer", "args": {"answer": text}, "id": "call-last"}
                function = models.ChatMessageToolCallFunction(
                    name=call["name"], arguments=call["args"]
                )
                calls = [models.ChatMessageToolCall(function, call["id"], "function")]
                return models.ChatMessage(role="assistant", content=text, tool_calls=calls)

        self.smolagents, self.model = smolagents, Instant

    def make(self, tools: Sequence[Tool]) -> Any:
        return self.smolagents.ToolCallingAgent(
            tools=[self.smolagents.tool(tool) for tool in tools],
            model=self.model(tools[0].__name__),
            max_steps=STEPS + 2,
            verbosity_level=-1,
        )

    async def run(self, agent: Any) -> str:
        agent.model.answers = turns(agent.model.tool)
        return str(agent.run(PROMPT))


def _corral(name: str) -> Callable[[], Side]:
    def make() -> Side:
        from bench._overhead_corral import CorralSide

        return CorralSide(read_only=name == CORRAL)

    return make


BASE = "StateGraph"
CORRAL = "Corral"
CORRAL_FLUSHED = "Corral, flush a call"
SIDES: dict[str, Callable[[], Side]] = {
    BASE: StateGraphSide,
    CORRAL: _corral(CORRAL),
    CORRAL_FLUSHED: _corral(CORRAL_FLUSHED),
    "create_agent": CreateAgentSide,
    "pydantic-ai": PydanticAiSide,
    "openai-agents": OpenAiAgentsSide,
    "agno": AgnoSide,
    "smolagents": SmolagentsSide,
}
"""The sides by name. Those of Corral and the baseline run in the project's own environment."""

PACKAGES = {
    "create_agent": "langchain",
    "pydantic-ai": "pydantic-ai-slim",
    "openai-agents": "openai-agents",
    "agno": "agno",
    "smolagents": "smolagents",
}
"""The package of each peer."""
