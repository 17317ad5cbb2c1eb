"""Graphs of every shape, cut off anywhere and gone on with: every replay is identical."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import RetryPolicy

import corral
from corral.runtime.events import ToolStarted
from tests.runtime.agents import scripted

pytestmark = pytest.mark.slow

SLOW = 1.0
EXAMPLES = int(os.environ.get("CORRAL_FUZZ_EXAMPLES", "10"))
# Deadlines depend on the machine's load: they are fuzzed only by who asks for more examples.
DEADLINES = "CORRAL_FUZZ_EXAMPLES" in os.environ

delays = st.sampled_from([0.0, 0.0, 0.001, 0.005, SLOW])

GIVE_UP = 0.15  # seconds after which a slow call is given up; nothing else takes that long

# What a node does: one call, some at once, a race, a call that is given up, or a graph inside.
STOPPED_OFTEN: list[Any] = [
    (
        [
            ("graph", [("call", 0.0)]),
            (
                "gather",
                [
                    (
                        "graph",
                        [
                            ("graph", [("call", 0.0)]),
                            ("graph", [("call", 0.001), ("call", 0.005)]),
                        ],
                    ),
                    ("call", 0.005),
                    ("call", SLOW),
                ],
            ),
        ],
        False,
    )
]
"""Stopped at 3, 4 and 0 starts, a call is asked for again after one beside it was cut off."""

calls = st.tuples(st.just("call"), delays)
steps = st.recursive(
    calls,
    lambda inner: st.one_of(
        st.tuples(st.just("gather"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("race"), st.lists(inner, min_size=2, max_size=3)),
        *([st.tuples(st.just("timeout"), inner)] if DEADLINES else []),
        st.tuples(st.just("graph"), st.lists(inner, min_size=1, max_size=2)),
    ),
    max_leaves=6,
)
nodes = st.tuples(st.lists(steps, min_size=1, max_size=3), st.booleans())
graphs = st.lists(nodes, min_size=1, max_size=3)


class Maker:
    """Builds the graph that is described, and counts what really happened."""

    def __init__(self, described: list[Any]) -> None:
        self.described = described
        self.made: Counter[str] = Counter()
        self.flaky: set[str] = set()

    def tool(self) -> Any:
        @corral.tool(idempotent=True)
        async def work(name: str, delay: float) -> str:
            """Do some work."""
            await asyncio.sleep(delay)
            self.made[name] += 1
            return f"{name} done"

        return work

    async def do(self, kit: corral.Kit, step: Any, name: str) -> str:
        """Do what a step says; what it gives depends on who was first."""
        what, how = step
        if what == "call":
            call = {"name": "functions__work", "args": {"name": name, "delay": how}, "id": name}
            return str((await kit.call(call)).content)
        if what == "timeout":
            try:
                return await asyncio.wait_for(self.do(kit, how, f"{name}t"), GIVE_UP)
            except TimeoutError:
                return f"{name} gave up"
        if what == "graph":
            return await self.inside(kit, how, name)
        tasks = [
            asyncio.create_task(self.do(kit, inner, f"{name}.{i}")) for i, inner in enumerate(how)
        ]
        if what == "gather":
            return " & ".join(await asyncio.gather(*tasks))
        _, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        won = [i for i, task in enumerate(tasks) if task not in rest]
        return f"{name} won by {won}"

    async def inside(self, kit: corral.Kit, how: list[Any], name: str) -> str:
        graph = self.chain(kit, [([step], False) for step in how], f"{name}g")
        state = await corral.subgraph(graph, {"messages": []})
        return " > ".join(str(message.content) for message in state["messages"])

    def chain(self, kit: corral.Kit, described: list[Any], name: str) -> Any:
        graph = StateGraph(MessagesState)
        retry = RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=False)
        last = START
        for number, (todo, flaky) in enumerate(described):
            node = f"{name}{number}"
            graph.add_node(node, self.node(kit, todo, node, flaky), retry_policy=retry)
            graph.add_edge(last, node)
            last = node
        graph.add_edge(last, END)
        return graph

    def node(self, kit: corral.Kit, todo: list[Any], name: str, flaky: bool) -> Any:
        async def run(state: MessagesState) -> dict[str, Any]:
            said = []
            for number, step in enumerate(todo):
                said.append(await self.do(kit, step, f"{name}-{number}"))
                # Not after a race: a node that is tried again knows what, but not who was first.
                if flaky and todo[0][0] == "call" and name not in self.flaky:
                    self.flaky.add(name)
                    raise ConnectionError("flaky")
            text = ", ".join(said)
            return {"messages": [AIMessage(text, id=name)]}

        return run

    def agent(self) -> corral.Agent:
        return scripted([], self.tool(), graph=lambda kit: self.chain(kit, self.described, "n"))


async def approve(approval: corral.Approval) -> corral.Approved:
    assert approval.kind == "in_doubt"
    return corral.Approved()


async def follow(events: Any, cut: int) -> None:
    """Follow a run until that many tools have started, and stop it there."""
    started = 0
    async with contextlib.aclosing(events):
        async for event in events:
            started += isinstance(event, ToolStarted)
            if started > cut:
                break


async def cut_off_and_resumed(home: Path, described: list[Any], cuts: list[int]) -> None:
    maker = Maker(described)
    options = corral.RunOptions(
        agent=maker.agent(), limits=corral.RunLimits(max_repeats=99), approver=approve
    )
    rules = [{"tool": "functions__*", "action": "allow"}]
    loaded = corral.load_settings({"home": home, "workspace": home, "rules": rules})
    async with corral.open(loaded) as c:
        events = c.stream("Go.", options)
        for cut in cuts:
            await follow(events, cut)
            (run,) = await c.records.runs()
            report = await c.replay(run.run, options)
            assert report.status == "identical", report.divergence
            if run.status == "completed":
                break
            events = c.stream_resume(run.run, options)
        else:
            await follow(events, 10**9)
        (run,) = await c.records.runs()
        assert run.status == "completed", run.error
        report = await c.replay(run.run, options)
        assert report.status == "identical", report.divergence
        journal = await c.records.trace(run.run)
    finished = Counter(
        str(e.request["args"]["name"])  # type: ignore[index,call-overload]  # a trace holds JSON
        for e in journal
        if e.kind == "tool" and e.status == "finished" and e.attempts == 1
    )
    for name, count in finished.items():
        assert maker.made[name] == count, f"{name} happened {maker.made[name]} times"


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(described=STOPPED_OFTEN, cuts=[3, 4, 0])
@given(described=graphs, cuts=st.lists(st.integers(0, 4), max_size=3))
def test_any_graph(described: list[Any], cuts: list[int], tmp_path_factory: Any) -> None:
    home = tmp_path_factory.mktemp("fuzz")
    asyncio.run(cut_off_and_resumed(home, described, cuts))
