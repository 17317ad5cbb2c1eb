"""What durability costs: a tool loop through Corral, against a bare LangGraph loop with its saver.

A step is one model call and one tool call. The model answers at once from memory and the tool is a
function in this process, so all that is measured is the runtime: time, CPU and bytes. What a
run without any step costs (one model call, the schema) is shown by itself and taken off the others.
The rounds are interleaved in one process; read the ratios. Both sides do the same steps on the same
disk; LangGraph with ``durability`` sync and async. Corral also writes every model and tool call
to its journal before and after it happens.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from corral.agents.app import RunOptions
from corral.agents.app import open as open_corral
from corral.agents.spec import Agent
from corral.policies.limits import RunLimits
from corral.runtime.config import load_settings
from corral.runtime.models.contract import Chunk, FinalChunk, ModelRequest, Usage

TOOL = "functions__double"
PROMPT = "Double the numbers one after another."


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def turn(number: int, steps: int, tool: str) -> AIMessage:
    """The model's message number ``number`` (from 0): a call, or the answer after the last."""
    if number >= steps:
        return AIMessage("done")
    call = {"name": tool, "args": {"number": number}, "id": f"call-{number}"}
    return AIMessage(f"Now {number}.", tool_calls=[call])


class InstantModel:
    """A model that answers at once; its window is never full."""

    name = "instant"
    context_window = 10**9

    def __init__(self, steps: int) -> None:
        self._steps = steps

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        message = turn(request.turn, self._steps, TOOL)
        reason: Literal["tool_calls", "stop"] = "tool_calls" if message.tool_calls else "stop"
        yield FinalChunk(message, Usage(10, 10), reason)

    def check_complete(self, turns: int) -> None:
        assert turns == self._steps + 1

    async def aclose(self) -> None:
        return None


async def corral_loop(folder: Path, steps: int) -> Timing:
    """The loop as an agent of Corral: journal, policy, limits and redaction included."""
    policy = folder / "policy.toml"
    policy.write_text(f'[[rules]]\ntool = "{TOOL}"\naction = "allow"\n', "utf-8")
    settings = load_settings({"home": folder / "home", "workspace": folder})
    agent = Agent(
        functions=(double,),
        servers=(),
        chat_model=InstantModel(steps),
        limits=RunLimits(max_steps=steps + 1),
    )
    async with open_corral(settings) as corral:
        clock = Clock()
        result = await corral.run(PROMPT, RunOptions(agent=agent, policy=str(policy)))
        timing = clock.read()
    assert (result.status, result.output, result.steps) == ("completed", "done", steps + 1), result
    return timing


class LoopState(TypedDict):
    """The state of the bare loop."""

    messages: Annotated[list[AnyMessage], add_messages]


def bare_graph(steps: int) -> StateGraph[LoopState]:
    """The same loop in plain LangGraph, as its tutorials write it."""

    async def model(state: LoopState) -> dict[str, Any]:
        return {"messages": [turn(len(state["messages"]) // 2, steps, "double")]}

    async def tools(state: LoopState) -> dict[str, Any]:
        last = state["messages"][-1]
        assert isinstance(last, AIMessage)
        made = [
            ToolMessage(str(double(**c["args"])), tool_call_id=c["id"]) for c in last.tool_calls
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


def langgraph_loop(durability: Literal["sync", "async"]) -> Case:
    """The loop in plain LangGraph with its SQLite saver."""

    async def run(folder: Path, steps: int) -> Timing:
        async with AsyncSqliteSaver.from_conn_string(str(folder / "checkpoints.db")) as saver:
            await saver.setup()
            graph = bare_graph(steps).compile(checkpointer=saver)
            clock = Clock()
            state = await graph.ainvoke(
                {"messages": [HumanMessage(PROMPT)]},
                {"configurable": {"thread_id": "1"}, "recursion_limit": 3 * steps + 10},
                durability=durability,
            )
            timing = clock.read()
        assert state["messages"][-1].text == "done"
        assert len(state["messages"]) == 2 * steps + 2
        return timing

    return run


@dataclass(frozen=True)
class Timing:
    """Seconds of one run."""

    wall: float
    cpu: float


class Clock:
    """Measures from its making to ``read``."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Timing:
        return Timing(time.perf_counter() - self._wall, time.process_time() - self._cpu)


Case = Callable[[Path, int], Coroutine[None, None, Timing]]

CORRAL, BASE = "Corral", "LangGraph, sync"
CASES: dict[str, Case] = {
    BASE: langgraph_loop("sync"),
    "LangGraph, async": langgraph_loop("async"),
    CORRAL: corral_loop,
}


@dataclass(frozen=True)
class Cost:
    """Milliseconds, milliseconds of CPU and bytes, of a run or of one step."""

    wall: float
    cpu: float
    bytes: float

    def per_step(self, empty: Cost, steps: int) -> Cost:
        """What one of ``steps`` steps cost beyond a run without any."""
        return Cost(
            (self.wall - empty.wall) / steps,
            (self.cpu - empty.cpu) / steps,
            (self.bytes - empty.bytes) / steps,
        )


def measure(case: Case, steps: int) -> Cost:
    """One run in a fresh folder. The bytes are those on disk once everything is closed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gc.collect()
        timing = asyncio.run(case(folder, steps))
        stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Cost(timing.wall * 1000, timing.cpu * 1000, stored)


def medians(steps: int, rounds: int) -> dict[str, Cost]:
    """The median run of each case, the rounds interleaved."""
    taken: dict[str, list[Cost]] = defaultdict(list)
    for _ in range(rounds):
        for name, case in CASES.items():
            taken[name].append(measure(case, steps))
    return {
        name: Cost(
            statistics.median(cost.wall for cost in costs),
            statistics.median(cost.cpu for cost in costs),
            statistics.median(cost.bytes for cost in costs),
        )
        for name, costs in taken.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=9, help="of the short runs; fewer of long")
    arguments = parser.parse_args()
    for case in CASES.values():
        measure(case, 5)  # imports, bytecode, caches
    empty = medians(0, arguments.rounds)
    report("run", empty, empty)
    print(f"\nx: ratio to {BASE} at the same length; first: ratio to itself at the first length\n")
    first: dict[str, Cost] = {}
    for steps in arguments.steps:
        runs = medians(steps, max(1, min(arguments.rounds, 300 // steps)))
        costs = {name: runs[name].per_step(empty[name], steps) for name in CASES}
        first = first or costs
        report(str(steps), costs, first)


def report(label: str, costs: dict[str, Cost], first: dict[str, Cost]) -> None:
    """Print the rows of one length; ``run`` is a whole run without a step."""
    if first is costs:
        print(
            f"{'steps':>6}  {'':17}{'ms':>8}{'x':>7}{'first':>7}{'cpu ms':>8}{'x':>7}{'first':>7}"
            f"{'bytes':>9}{'x':>7}{'first':>7}"
        )
    base = costs[BASE]
    for name, cost in costs.items():
        start = first[name]
        print(
            f"{label:>6}  {name:17}"
            f"{cost.wall:>8.2f}{cost.wall / base.wall:>7.2f}{cost.wall / start.wall:>7.2f}"
            f"{cost.cpu:>8.2f}{cost.cpu / base.cpu:>7.2f}{cost.cpu / start.cpu:>7.2f}"
            f"{cost.bytes:>9.0f}{cost.bytes / base.bytes:>7.3f}{cost.bytes / start.bytes:>7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
