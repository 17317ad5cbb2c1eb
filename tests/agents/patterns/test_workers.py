"""Workers: their errors are results, so many run at once, and they can be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

import corral
from corral.errors import ConfigError, CorralError, StoppedByUser, StorageError
from corral.policies.budgets import Budget
from corral.policies.loops import LoopSettings
from corral.runtime.config import Settings
from corral.runtime.engine import PARALLEL_TASKS
from corral.runtime.events import AgentFinished, AgentStarted, Placed, RunFinished, ToolStarted
from corral.runtime.models.contract import ModelRequest
from tests.agents.patterns.support import (
    Answering,
    allowing,
    answers,
    cut_and_resumed,
    replayed,
    solved,
)
from tests.agents.patterns.teams import (
    DONE,
    Gate,
    calling,
    function,
    gated,
    lead,
    results,
    task,
    worker,
)
from tests.runtime.agents import Turn
from tests.tools.support import SERVERS, notes_in, until


def work(at: int) -> str:
    """Work on something."""
    return f"worked at {at}"


def working(request: ModelRequest) -> Turn:
    """A turn of a worker that never ends, and does something new each time."""
    return calling(function("work", at=len(results(request))), text="On it.")


def broken_graph(error: BaseException) -> Any:
    """A graph of the caller's own that raises."""

    def build(kit: corral.Kit) -> Any:
        async def only(state: MessagesState) -> dict[str, Any]:
            await kit.ask([AIMessage("begin")])
            raise error

        graph = StateGraph(MessagesState)
        graph.add_node("only", only)
        graph.add_edge(START, "only")
        return graph

    return build


class Price(BaseModel):
    """A price."""

    amount: int


OWN_LIMIT = corral.RunLimits(max_steps=2)

FAILING: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"reply": lambda _: {"error": "no connection"}}, "no connection"),
    "step limit": (
        {"reply": working, "functions": (work,), "limits": OWN_LIMIT},
        "its step limit is 2",
    ),
    "budget": (
        {
            "reply": working,
            "functions": (work,),
            "budget": Budget(tool_calls=1, at_limit="answer"),
        },
        "the budget of the agent alice",
    ),
    "loop": (
        {
            "reply": lambda _: calling(function("work", at=1)),
            "functions": (work,),
            "loops": LoopSettings(ask_after=1, stop_after=1),
        },
        "went round in circles",
    ),
    "type": ({"reply": "no price", "returns": Price}, "no answer of its declared type"),
    "typed, and no model": (
        {"reply": lambda _: {"error": "no connection"}, "returns": Price},
        "no answer of its declared type",
    ),
    "graph": ({"graph": broken_graph(ZeroDivisionError("by zero"))}, "ZeroDivisionError: by zero"),
}


def coordinator() -> Answering:
    """Gives alice and bob a task each, and answers when they have reported."""
    both = calling(task("alice", "Do a."), task("bob", "Do b."))
    return Answering(lambda request: DONE if results(request) else both)


@pytest.mark.parametrize("pattern", ["supervisor", "react"])
@pytest.mark.parametrize("failure", FAILING)
async def test_what_goes_wrong_in_a_worker_is_a_result(
    settings: Settings, failure: str, pattern: str
) -> None:
    fields, words = FAILING[failure]
    model = coordinator()
    agent = lead(model, worker("alice", **fields), worker("bob"), pattern=pattern)
    done = await solved(settings, agent)
    assert done.output == "All done."
    first, second = results(model.asked[1])
    assert words in first
    assert second == "bob is done."


@pytest.mark.parametrize("failure", ["model", "step limit", "graph", "budget"])
@pytest.mark.parametrize("after", [2, 4])
async def test_it_is_one_after_a_resume_too(settings: Settings, failure: str, after: int) -> None:
    fields, words = FAILING[failure]
    model = coordinator()
    agent = lead(model, worker("alice", **fields), worker("bob"))
    await cut_and_resumed(settings, agent, after)
    assert words in results(model.asked[-1])[0]


async def test_a_dead_tool_server_is_a_result_of_the_workers(settings: Settings) -> None:
    model = Answering(lambda request: "It is dead." if results(request) else calling(die))
    die = {"name": "gone__die", "args": {}}
    broken = {"gone": {"command": "/does/not/exist", "sandbox": False, "trust": True}}
    dead = corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "mcp": broken}
    )
    alice = answers(model, name="alice", servers=("gone",))
    async with corral.open(dead) as c:
        done = await c.run(
            "Go.", corral.RunOptions(agent=lead(coordinator(), alice, worker("bob")))
        )
    assert (done.status, done.output) == ("completed", "All done."), done.error
    assert "There is no tool" in results(model.asked[1])[0]


async def test_the_limits_of_the_run_go_through(settings: Settings) -> None:
    alice = worker("alice", working, functions=(work,), limits=OWN_LIMIT)
    agent = lead(coordinator(), alice, worker("bob"))
    options = corral.RunOptions(agent=agent, limits=corral.RunLimits(max_steps=3))
    async with corral.open(allowing(settings)) as c:
        stopped = await c.run("Go.", options)
    assert stopped.status == "stopped"
    assert "alice has made 3 model calls" in str(stopped.error)


@pytest.mark.parametrize("error", [StorageError("the disk is full"), StoppedByUser("stop")])
async def test_what_ends_a_run_goes_through(settings: Settings, error: CorralError) -> None:
    alice = worker("alice", graph=broken_graph(error))
    async with corral.open(allowing(settings)) as c:
        agent = lead(coordinator(), alice, worker("bob"))
        ended = await c.run("Go.", corral.RunOptions(agent=agent))
    assert ended.status in ("failed", "stopped")
    assert error.message in str(ended.error)


# In parallel


async def test_so_many_work_at_once_and_no_more(settings: Settings) -> None:
    gate = Gate(3)
    team = [gated(f"w{number}", gate) for number in range(6)]
    asking = calling(*(task(one.name, "Do it.") for one in team))
    model = Answering(lambda request: DONE if results(request) else asking)
    done = await solved(settings, lead(model, *team, parallel=3))
    assert gate.most == 3
    assert results(model.asked[1]) == [f"w{number} is done." for number in range(6)]
    assert done.output == "All done."


async def test_so_many_at_two_levels(settings: Settings) -> None:
    """Two teams at once, two of each team at once: four at once, of eight."""
    gate = Gate(4)

    def over(*names: str) -> Answering:
        asking = calling(*(task(name, "Do it.") for name in names))
        return Answering(lambda request: DONE if results(request) else asking)

    teams = []
    for index in range(2):
        team = [gated(f"w{index}{number}", gate) for number in range(4)]
        middle = over(*(one.name for one in team))
        teams.append(lead(middle, *team, name=f"team{index}", parallel=2))
    await solved(settings, lead(over("team0", "team1"), *teams, parallel=2))
    assert gate.most == 4


async def test_eight_run_at_once(settings: Settings) -> None:
    gate = Gate(8)
    team = [gated(f"w{number}", gate) for number in range(8)]
    asking = calling(*(task(one.name, "Do it.") for one in team))
    model = Answering(lambda request: DONE if results(request) else asking)
    await solved(settings, lead(model, *team))
    assert gate.most == 8


async def test_a_graph_inside_of_another_has_a_limit_too(settings: Settings) -> None:
    """Twelve workers of an agent two levels down, which has no limit of its own."""
    gate = Gate(PARALLEL_TASKS)
    team = [gated(f"w{number}", gate) for number in range(12)]
    asking = calling(*(task(one.name, "Do it.") for one in team))
    middle = lead(
        Answering(lambda request: DONE if len(results(request)) == 12 else asking),
        *team,
        name="middle",
        pattern="react",
    )
    top = Answering(lambda request: DONE if results(request) else calling(task("middle", "x")))
    await solved(settings, lead(top, middle))
    assert gate.most == PARALLEL_TASKS


# Cancelled


def below() -> set[int]:
    """The processes that this one has started, and theirs."""
    return {process.pid for process in psutil.Process().children(recursive=True)}


async def test_cancelling_a_supervisor_cancels_its_workers_and_their_calls(
    settings: Settings, tmp_path: Path
) -> None:
    """Two workers two levels down: one in a function, one in a call of a real tool server."""
    notes = tmp_path / "notes"
    command = [sys.executable, "-S", "-E", str(SERVERS / "hostile.py"), "plain", str(notes)]
    server = {"command": command[0], "args": command[1:], "sandbox": False, "trust": True}
    rules = [{"tool": "*", "action": "allow"}]
    own = corral.load_settings(
        {
            "home": settings.home,
            "workspace": settings.workspace,
            "mcp": {"srv": server},
            "rules": rules,
        }
    )
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def hold() -> str:
        """Wait for ever."""
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return "never"

    one = worker("one", lambda _: calling(function("hold")), functions=(hold,))
    two = worker("two", lambda _: calling({"name": "srv__wait", "args": {}}), servers=("srv",))
    middle = lead(Answering(lambda _: calling(task("one", "x"), task("two", "x"))), one, two)
    agent = lead(
        Answering(lambda _: calling(task("middle", "x"))),
        middle.model_copy(update={"name": "middle"}),
    )
    processes, tasks = below(), asyncio.all_tasks()
    async with corral.open(own) as c:
        async with contextlib.aclosing(c.stream("Go.", corral.RunOptions(agent=agent))) as events:
            started = 0
            async for event in events:
                started += isinstance(event, ToolStarted) and not isinstance(event, AgentStarted)
                if started == 2:
                    break
            await began.wait()
            await until(lambda: "waiting" in notes_in(notes))
        assert cancelled.is_set()
        (run,) = await c.records.runs()
        assert run.status == "stopped"
        trace = await c.records.trace(run.run)
        calls = {e.name: e.status for e in trace if e.kind == "tool"}
        assert calls == {"functions__hold": "cancelled", "srv__wait": "cancelled"}
        assert {e.status for e in trace if e.kind == "agent"} == {"cancelled"}
    await until(lambda: asyncio.all_tasks() <= tasks)
    await until(lambda: below() <= processes)


async def test_a_graph_can_cancel_a_worker(settings: Settings) -> None:
    """Of two workers in a race, the one that loses is cancelled with what it does."""
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def hold() -> str:
        """Wait for ever."""
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return "never"

    async def quick() -> str:
        """Come after the other has begun."""
        await began.wait()
        return "quick"

    def build(kit: corral.Kit) -> Any:
        async def only(state: MessagesState) -> dict[str, Any]:
            race = [asyncio.ensure_future(kit.work(name, "Go.")) for name in ("slow", "fast")]
            done, rest = await asyncio.wait(race, return_when=asyncio.FIRST_COMPLETED)
            for one in rest:
                one.cancel()
            await asyncio.wait(rest)
            return {"messages": [done.pop().result().message]}

        graph = StateGraph(MessagesState)
        graph.add_node("only", only)
        graph.add_edge(START, "only")
        return graph

    slow = worker("slow", lambda _: calling(function("hold")), functions=(hold,))
    fast = worker(
        "fast",
        lambda request: "I won." if results(request) else calling(function("quick")),
        functions=(quick,),
    )
    done = await solved(settings, answers([], agents=(slow, fast), graph=build))
    assert (done.output, cancelled.is_set()) == ("I won.", True)


# Told


async def test_events_of_every_depth_say_where_and_who(settings: Settings) -> None:
    """Three levels with two workers at once on each: the names need no parsing."""

    def over(*names: str) -> Answering:
        asking = calling(*(task(name, f"Task of {name}.") for name in names))
        return Answering(lambda request: DONE if results(request) else asking)

    def deep(name: str) -> corral.Agent:
        return worker(
            name,
            lambda request: (
                f"{name} says so." if results(request) else calling(function("work", at=1))
            ),
            functions=(work,),
        )

    left = lead(over("a", "b"), deep("a"), deep("b"), name="left")
    right = lead(over("c", "d"), deep("c"), deep("d"), name="right")
    agent = lead(over("left", "right"), left, right)
    options = corral.RunOptions(agent=agent)
    async with corral.open(allowing(settings)) as c:
        events = [event async for event in c.stream("Go.", options)]
        assert isinstance(events[-1], RunFinished)
        trace = await c.records.trace(events[-1].result.run)
        await replayed(c, events[-1].result.run, agent)
    started = {e.path: e for e in events if isinstance(e, AgentStarted)}
    finished = {e.path: e for e in events if isinstance(e, AgentFinished)}
    assert started.keys() == finished.keys() == {e.path for e in trace if e.kind == "agent"}
    assert started["2.work[1]#0/2.work[0]#0"].name == "c"
    assert started["2.work[1]#0/2.work[0]#0"].agents == ("lead", "right")
    assert started["2.work[1]#0"].args == {"task": "Task of right."}
    placed = [event for event in events if isinstance(event, Placed)]
    for event in placed:
        around = [one.name for path, one in started.items() if event.path.startswith(f"{path}/")]
        assert event.agents == ("lead", *around)
    said = {e.agent: e.to_json()["text"] for e in placed if e.type == "text"}
    assert said["c"] == "c says so."
    calls = {e.agent for e in placed if e.type == "tool_started"}
    assert calls == {"a", "b", "c", "d"}


@pytest.mark.parametrize("depth", [0, 1])
async def test_a_team_without_anybody_is_said_at_once(settings: Settings, depth: int) -> None:
    nobody = lead([DONE], name="alone")
    agent = lead([DONE], nobody) if depth else nobody
    async with corral.open(settings) as c:
        with pytest.raises(ConfigError, match="'alone' works as supervisor and has no sub-agents"):
            await c.run("Go.", corral.RunOptions(agent=agent))
