"""What the door adds to a tool call: with nothing configured, and with everything on.

A node makes the calls one after the other, so LangGraph has no part in it. The tool is a function
in this process that gives back its argument. All sides are measured in turn in one process; a
table has the medians, and the ratios are to calling the tool through its pool, without a door.

    the tool, no door      the pool: arguments validated, the result bounded
    the door               journal before and after, policy (one rule), loops, labels, redaction
    + 1,000 rules          of which none is about this tool
    + budgets              of agent and run, in memory
    + shared budgets       of thread, user and day: reserved in the database
    + personal data        e-mail, phone and IP addresses looked for as well
    + checks               a pattern that each call and each result must not have
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langgraph.graph import END, START, MessagesState, StateGraph

import corral
from corral.tools.contract import CallOptions
from corral.tools.functions import FunctionTools
from corral.tools.pool import ToolPool

BASE = "the tool, no door"
TEXT = "A paragraph as a tool gives it, of some forty words: the report was read, two of its " * 3

Side = Mapping[str, Any]
"""Settings of one row."""


@corral.tool(destructive=False, open_world=False)
def work(number: int) -> str:
    """Give back a text."""
    return f"{number}: {TEXT}"


def rows() -> dict[str, Side]:
    """The sides with a door; each has what those before it have."""
    allow = {"tool": "functions__work", "action": "allow"}
    many = [
        {"tool": f"server{i % 50}__tool{i}", "args": {"path": f"area{i}/**"}, "action": "deny"}
        for i in range(999)
    ]
    own = {"run": {"tool_calls": 10**9, "tokens": 10**12, "usd": 10**6}}
    shared = {name: {"tool_calls": 10**9} for name in ("thread", "user", "day")}
    check = {"pattern": "BEGIN-MARKER", "on_fail": "flag"}
    checks = [
        {"name": f"no marker, {on}", "on": on, **check} for on in ("tool_call", "tool_result")
    ]
    found: dict[str, Side] = {}
    so_far: dict[str, Any] = {"snapshots": {"enabled": False}}
    for name, more in (
        ("the door", {"rules": [allow]}),
        ("+ 1,000 rules", {"rules": [*many, allow]}),
        ("+ budgets", {"budgets": own}),
        ("+ shared budgets", {"budgets": {**own, **shared}}),
        ("+ personal data", {"redaction": {"personal": ["email", "phone", "ip", "card", "iban"]}}),
        ("+ checks", {"checks": checks}),
    ):
        so_far = {**so_far, **more}
        found[name] = so_far
    return found


async def without_a_door(calls: int) -> list[float]:
    """Milliseconds of each call through the pool."""
    taken = []
    async with ToolPool([FunctionTools("functions", (work,))]) as pool:
        (spec,) = (await pool.catalog()).tools
        for number in range(calls):
            began = time.perf_counter()
            await pool.call(spec, {"number": number}, CallOptions(str(number)))
            taken.append((time.perf_counter() - began) * 1e3)
    return taken


async def with_a_door(home: Path, side: Side, calls: int) -> list[float]:
    """Milliseconds of each call of a run with these settings."""
    taken: list[float] = []

    def build(kit: corral.Kit) -> StateGraph[Any, Any, Any, Any]:
        async def node(state: MessagesState) -> dict[str, Any]:
            for number in range(calls):
                began = time.perf_counter()
                await kit.call(
                    {"name": "functions__work", "args": {"number": number}, "id": f"c{number}"}
                )
                taken.append((time.perf_counter() - began) * 1e3)
            return {"messages": state["messages"][:0]}

        graph = StateGraph(MessagesState)
        graph.add_node("node", node)
        graph.add_edge(START, "node")
        graph.add_edge("node", END)
        return graph

    agent = corral.Agent(
        graph=build,
        functions=(work,),
        servers=(),
        facts=0,
        chat_model=corral.ScriptedModel([]),
    )
    settings = corral.load_settings({"home": home, "workspace": home, **side})
    async with corral.open(settings) as opened:
        result = await opened.run("Work.", corral.RunOptions(agent=agent))
    if result.status != "completed" or len(taken) != calls:
        raise RuntimeError(f"the run is {result.status}: {result.error} {result.approvals}")
    return taken


def measure(calls: int, rounds: int) -> dict[str, list[float]]:
    """All calls of all rounds, the sides in turn; the first calls of a run are left out."""
    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        taken[BASE] += asyncio.run(without_a_door(calls))[10:]
        for name, side in rows().items():
            with tempfile.TemporaryDirectory() as folder:
                taken[name] += asyncio.run(with_a_door(Path(folder), side, calls))[10:]
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=200, help="of one run")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    taken = measure(arguments.calls, arguments.rounds)
    base = statistics.median(taken[BASE])
    print(f"{'one tool call':24}{'ms':>8}{'added ms':>10}{'p95 ms':>9}{'x':>7}")
    for name, times in taken.items():
        median, high = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        print(f"{name:24}{median:>8.3f}{median - base:>10.3f}{high:>9.3f}{median / base:>7.1f}")


if __name__ == "__main__":
    main()
