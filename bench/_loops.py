"""One tool loop in several frameworks, so that each one's cost of a step can be measured.

A step is one model call and one tool call. The model answers at once from memory and the tool is
a function in this process: all that is left is the framework. ``LOOPS`` has them by name; those
of packages that are not installed are in ``MISSING``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Checkpointer

from corral.agents.app import open as open_corral
from corral.agents.options import RunOptions
from corral.agents.spec import Agent
from corral.policies.limits import RunLimits
from corral.runtime.config import Settings, load_settings
from corral.runtime.models.contract import Chunk, FinalChunk, ModelRequest, Usage

TOOL = "functions__double"
PROMPT = "Double the numbers one after another."


class Laps:
    """When a loop started, each time its model was called, and when it ended: wall and CPU seconds.

    Threads of this process count into the CPU time.
    """

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def lap(self) -> None:
        """It is now."""
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())


Loop = Callable[[Path, int, Laps], Coroutine[None, None, None]]
"""Does so many steps in a folder of its own; ``Laps.lap`` before, at each model call, and after."""


async def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def turn(number: int, steps: int, tool: str) -> AIMessage:
    """The model's message number ``number`` (from 0): a call, or the answer after the last."""
    if number >= steps:
        return AIMessage("done")
    call = {"name": tool, "args": {"number": number}, "id": f"call-{number}"}
    return AIMessage(f"Now {number}.", tool_calls=[call])


class InstantModel:
    """A model of Corral's that answers at once; its window is never full."""

    name = "instant"
    context_window = 10**9

    def __init__(self, steps: int, laps: Laps) -> None:
        self._steps = steps
        self._laps = laps

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        self._laps.lap()
        message = turn(request.turn, self._steps, TOOL)
        reason: Literal["tool_calls", "stop"] = "tool_calls" if message.tool_calls else "stop"
        yield FinalChunk(message, Usage(10, 10), reason)

    def check_complete(self, turns: int) -> None:
        assert turns == self._steps + 1

    async def aclose(self) -> None:
        return None


def corral_settings(folder: Path) -> Settings:
    """Corral's settings for a folder of its own."""
    return load_settings({"home": folder / "home", "workspace": folder})


def corral_options(folder: Path, steps: int, laps: Laps) -> RunOptions:
    """The loop as an agent of Corral, with a policy file and limits."""
    policy = folder / "policy.toml"
    policy.write_text(f'[[rules]]\ntool = "{TOOL}"\naction = "allow"\n', "utf-8")
    agent = Agent(
        functions=(double,),
        servers=(),
        chat_model=InstantModel(steps, laps),
        limits=RunLimits(max_steps=steps + 1),
    )
    return RunOptions(agent=agent, policy=str(policy))


async def corral_loop(folder: Path, steps: int, laps: Laps) -> None:
    """The loop in Corral: journal, policy, limits and redaction included."""
    options = corral_options(folder, steps, laps)
    async with open_corral(corral_settings(folder)) as corral:
        laps.lap()
        result = await corral.run(PROMPT, options)
        laps.lap()
    assert (result.status, result.output, result.steps) == ("completed", "done", steps + 1), result


class LoopState(TypedDict):
    """The state of the bare loop."""

    messages: Annotated[list[AnyMessage], add_messages]


def bare_graph(steps: int, laps: Laps) -> StateGraph[LoopState]:
    """The loop in plain LangGraph, as its tutorials write it."""

    async def model(state: LoopState) -> dict[str, Any]:
        laps.lap()
        return {"messages": [turn(len(state["messages"]) // 2, steps, "double")]}

    async def tools(state: LoopState) -> dict[str, Any]:
        last = state["messages"][-1]
        assert isinstance(last, AIMessage)
        made = [
            ToolMessage(str(await double(**c["args"])), tool_call_id=c["id"])
            for c in last.tool_calls
        ]
        return {"messages": made}

    def route(state: LoopState) -> str:
        last = state["messages"][-1]
        return "tools" if isinstance(last, AIMessage) and last.tool_calls else END

    graph = StateGraph(LoopState)
    graph.add_node("model", model)
    graph.add_node("tools", tools)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", route, ["tools", END])
    graph.add_edge("tools", "model")
    return graph


async def _invoke(
    graph: StateGraph[LoopState], saver: Checkpointer, steps: int, laps: Laps, **options: Any
) -> None:
    compiled = graph.compile(checkpointer=saver)
    laps.lap()
    state = await compiled.ainvoke(
        {"messages": [HumanMessage(PROMPT)]},
        {"configurable": {"thread_id": "1"}, "recursion_limit": 3 * steps + 10},
        **options,
    )
    laps.lap()
    assert state["messages"][-1].text == "done"
    assert len(state["messages"]) == 2 * steps + 2


async def stategraph_loop(_folder: Path, steps: int, laps: Laps) -> None:
    """The loop in plain LangGraph; nothing is kept."""
    await _invoke(bare_graph(steps, laps), None, steps, laps)


def checkpointed(durability: Literal["sync", "async", "exit"]) -> Loop:
    """The loop in plain LangGraph with its SQLite saver."""

    async def loop(folder: Path, steps: int, laps: Laps) -> None:
        async with AsyncSqliteSaver.from_conn_string(str(folder / "checkpoints.db")) as saver:
            await saver.setup()
            await _invoke(bare_graph(steps, laps), saver, steps, laps, durability=durability)

    return loop


class InstantChatModel(BaseChatModel):
    """A model of LangChain's that answers at once."""

    steps: int
    laps: Any

    @property
    def _llm_type(self) -> str:
        return "instant"

    def bind_tools(self, tools: Sequence[Any], **_options: Any) -> Any:
        assert tools
        return self

    def _generate(self, messages: list[BaseMessage], *_args: Any, **_options: Any) -> ChatResult:
        self.laps.lap()
        message = turn(len(messages) // 2, self.steps, "double")
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self, messages: list[BaseMessage], *args: Any, **options: Any
    ) -> ChatResult:
        return self._generate(messages, *args, **options)


async def create_agent_loop(_folder: Path, steps: int, laps: Laps) -> None:
    """The loop as LangChain's prebuilt agent; nothing is kept."""
    from langchain.agents import create_agent

    agent = create_agent(InstantChatModel(steps=steps, laps=laps), [double])
    laps.lap()
    state = await agent.ainvoke(
        {"messages": [HumanMessage(PROMPT)]}, {"recursion_limit": 3 * steps + 10}
    )
    laps.lap()
    assert state["messages"][-1].text == "done"
    assert len(state["messages"]) == 2 * steps + 2


async def pydantic_ai_loop(_folder: Path, steps: int, laps: Laps) -> None:
    """The loop in pydantic-ai; nothing is kept."""
    from pydantic_ai import Agent as PydanticAgent
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel
    from pydantic_ai.usage import UsageLimits

    def answer(messages: list[Any], _info: Any) -> Any:
        laps.lap()
        message = turn(len(messages) // 2, steps, "double")
        calls = [ToolCallPart(c["name"], c["args"], c["id"]) for c in message.tool_calls]
        return ModelResponse(parts=[TextPart(message.text), *calls])

    agent = PydanticAgent(FunctionModel(answer), tools=[double])
    laps.lap()
    result = await agent.run(PROMPT, usage_limits=UsageLimits(request_limit=None))
    laps.lap()
    assert result.output == "done"
    assert len(result.all_messages()) == 2 * steps + 2


async def openai_agents_loop(_folder: Path, steps: int, laps: Laps) -> None:
    """The loop in openai-agents, its tracing off; nothing is kept."""
    import agents

    model = _openai_agents_model(agents, steps, laps)
    agent = agents.Agent(name="loop", model=model, tools=[agents.function_tool(double)])
    quiet = agents.RunConfig(tracing_disabled=True)
    laps.lap()
    result = await agents.Runner.run(agent, PROMPT, max_turns=steps + 2, run_config=quiet)
    laps.lap()
    assert result.final_output == "done"


def _openai_agents_model(agents: Any, steps: int, laps: Laps) -> Any:
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage
    from openai.types.responses.response_output_text import ResponseOutputText

    class Instant(agents.Model):  # type: ignore[misc]  # its package is installed for benches only
        done = 0

        async def get_response(self, *_args: Any, **_options: Any) -> Any:
            laps.lap()
            message = turn(self.done, steps, "double")
            self.done += 1
            text = ResponseOutputText(text=message.text, type="output_text", annotations=[])
            output: list[Any] = [
                ResponseOutputMessage(
                    id=f"m-{self.done}",
                    content=[text],
                    role="assistant",
                    status="completed",
                    type="message",
                )
            ]
            for call in message.tool_calls:
                arguments = f'{{"number": {call["args"]["number"]}}}'
                output.append(
                    ResponseFunctionToolCall(
                        arguments=arguments,
                        call_id=str(call["id"]),
                        name=call["name"],
                        type="function_call",
                    )
                )
            return agents.ModelResponse(output=output, usage=agents.Usage(), response_id=None)

        def stream_response(self, *_args: Any, **_options: Any) -> Any:
            raise AssertionError("the benchmark does not stream")

    return Instant()


BASE = "StateGraph, no checkpointer"
CORRAL = "Corral"
_ALL: dict[str, tuple[str, Loop]] = {
    BASE: ("langgraph", stategraph_loop),
    CORRAL: ("corral", corral_loop),
    "StateGraph, exit": ("langgraph", checkpointed("exit")),
    "StateGraph, async": ("langgraph", checkpointed("async")),
    "StateGraph, sync": ("langgraph", checkpointed("sync")),
    "LangChain create_agent": ("langchain", create_agent_loop),
    "pydantic-ai": ("pydantic-ai-slim", pydantic_ai_loop),
    "openai-agents": ("openai-agents", openai_agents_loop),
}


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


LOOPS = {name: loop for name, (package, loop) in _ALL.items() if _installed(package)}
MISSING = [package for package, _loop in _ALL.values() if not _installed(package)]
VERSIONS = {package: version(package) for package, _ in _ALL.values() if _installed(package)}
