"""How fast a run replays, and in how much memory.

A run of N effects (model calls, tool calls, and what the agent looks up once) is made and then
replayed in a new process, offline, every effect compared with the journal. Beside it the same
graph runs in plain LangGraph, its nodes answering from memory: the graph alone. ``x`` is the ratio
of the two, MB what the process had taken at most, with what it took before the replay in brackets.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

from bench._loops import PROMPT, TOOL, Laps, corral_options, corral_settings, turn
from corral.agents.app import open as open_corral
from corral.agents.prompting import ReactState
from corral.agents.react import ToolTask

MEGA = 1e6


def graph_alone(steps: int) -> StateGraph[Any, Any, Any, Any]:
    """Corral's loop as a graph of plain LangGraph's: same nodes, same channels, no effects."""

    async def model(state: ReactState) -> Command[str]:
        number = len(state["messages"]) // 2
        answer = turn(number, steps, TOOL)
        answer.id = f"answer-{number}"
        tasks = [
            ToolTask(call=call, result_id=f"{answer.id}/{index}")
            for index, call in enumerate(answer.tool_calls)
        ]
        goto = [Send("tools", task) for task in tasks] or END
        return Command(update={"messages": [answer]}, goto=goto)

    async def tools(state: ToolTask) -> ReactState:
        text = str(2 * state["call"]["args"]["number"])
        call = str(state["call"]["id"])
        return {"messages": [ToolMessage(text, tool_call_id=call, id=state["result_id"])]}

    graph = StateGraph(ReactState)
    graph.add_node("model", model, destinations=("tools", END))
    graph.add_node("tools", tools, input_schema=ToolTask)
    graph.add_edge(START, "model")
    graph.add_edge("tools", "model")
    return graph


async def run_alone(steps: int) -> float:
    """Seconds of CPU that the graph alone takes."""
    graph = graph_alone(steps).compile(checkpointer=InMemorySaver())
    began = time.process_time()
    state = await graph.ainvoke(
        {"messages": [HumanMessage(PROMPT, id="prompt")]},
        {"configurable": {"thread_id": "1"}, "recursion_limit": 3 * steps + 10},
        durability="exit",
    )
    took = time.process_time() - began
    last = state["messages"][-1]
    assert isinstance(last, AIMessage)
    assert (last.text, len(state["messages"])) == ("done", 2 * steps + 2)
    return took


async def record(folder: Path, steps: int) -> str:
    """Make the run; its id."""
    options = corral_options(folder, steps, Laps())
    async with open_corral(corral_settings(folder)) as corral:
        result = await corral.run(PROMPT, options)
    assert (result.status, result.steps) == ("completed", steps + 1), result
    return result.run


async def replayed(folder: Path, steps: int, run: str) -> dict[str, float]:
    """Replay the run in this process, and say what that took."""
    options = corral_options(folder, steps, Laps())
    async with open_corral(corral_settings(folder)) as corral:
        before = _peak()
        wall, cpu = time.perf_counter(), time.process_time()
        report = await corral.replay(run, options)
        took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    assert report.status == "identical", report
    assert report.reused == report.effects
    alone = await run_alone(steps)
    return {**took, "effects": report.effects, "alone": alone, "before": before, "peak": _peak()}


def _peak() -> float:
    """What this process has taken at most, in bytes; ``getrusage`` has its parent's in it."""
    status = Path("/proc/self/status").read_text("utf-8")
    return float(status.partition("VmHWM:")[2].split()[0]) * 1024


def child(folder: Path, steps: int, run: str) -> dict[str, float]:
    """``replayed`` in a new process."""
    command = [sys.executable, __file__, "--replay", str(folder), str(steps), run]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(effects: int, rounds: int) -> None:
    """Measure and print one row of the table."""
    steps = effects // 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = asyncio.run(record(folder, steps))
        found = [child(folder, steps, run) for _ in range(rounds)]
        stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    one = {key: statistics.median(each[key] for each in found) for key in found[0]}
    ratio = statistics.median(each["cpu"] / each["alone"] for each in found)
    count = int(one["effects"])
    print(
        f"{count:>8}{one['wall']:>8.2f}{one['cpu']:>8.2f}{count / one['wall']:>10.0f}"
        f"{one['alone']:>13.2f}{ratio:>6.2f}{one['peak'] / MEGA:>8.0f}"
        f" ({one['before'] / MEGA:.0f}){stored / MEGA:>9.1f}",
        flush=True,
    )


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--effects", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--replay", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    if arguments.replay:
        folder, steps, run = arguments.replay
        print(json.dumps(asyncio.run(replayed(Path(folder), int(steps), run))))
        return
    print(
        f"{'effects':>8}{'s':>8}{'cpu s':>8}{'effects/s':>10}{'graph cpu s':>13}{'x':>6}"
        f"{'MB':>14}{'MB disk':>9}"
    )
    for effects in arguments.effects:
        row(effects, arguments.rounds)


if __name__ == "__main__":
    main()
