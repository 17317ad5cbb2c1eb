"""Graphs of the caller's own and graphs inside of graphs: as durable as the ReAct loop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from operator import add
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import RetryPolicy, Send
from langsmith.utils import get_env_var, tracing_is_enabled

import corral
from corral.runtime.config import Settings
from corral.runtime.events import ToolFinished
from corral.runtime.models.contract import Chunk, FinalChunk, ModelRequest, Usage
from tests.runtime.agents import scripted, turn


@pytest.fixture
def allowing(settings: Settings) -> Settings:
    """Settings that let every function through."""
    rules = [{"tool": "functions__*", "action": "allow"}]
    return corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    )


class Calls:
    """A tool that can be slow, fail, or be told when to end; and what really happened."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.delays: dict[str, float] = {}
        self.failing: dict[str, int] = {}

    def tool(self) -> Callable[..., Any]:
        async def work(name: str) -> str:
            """Do some work."""
            self.made.append(name)
            await asyncio.sleep(self.delays.get(name, 0))
            return f"worked {name}"

        return work


def work(name: str) -> dict[str, Any]:
    return {"name": "functions__work", "args": {"name": name}, "id": f"call-{name}"}


def single(node: Callable[..., Any], **options: Any) -> Callable[[corral.Kit], Any]:
    """A graph of one node, which is given the kit and the state."""

    def build(kit: corral.Kit) -> Any:
        async def only(state: MessagesState) -> dict[str, Any]:
            return {"messages": [AIMessage(await node(kit))]}

        graph = StateGraph(MessagesState)
        graph.add_node("only", only, **options)
        graph.add_edge(START, "only")
        graph.add_edge("only", END)
        return graph

    return build


async def run_and_replay(
    settings: Settings, agent: corral.Agent, calls: Calls
) -> tuple[str, list[corral.EffectView]]:
    """Run it, and replay it without making a call. The answer and the journal."""
    options = corral.RunOptions(agent=agent)
    async with corral.open(settings) as c:
        result = await c.run("Go.", options)
        assert result.status == "completed", result.error
        before = list(calls.made)
        began = time.monotonic()
        report = await c.replay(result.run, options)
        assert (report.status, report.executed) == ("identical", 0), report.divergence
        assert time.monotonic() - began < 5  # recorded waits are not waited for
        assert calls.made == before
        return result.output, await c.records.trace(result.run)


async def test_what_is_not_a_tool_is_a_step(allowing: Settings) -> None:
    async def node(kit: corral.Kit) -> str:
        chance = await corral.step("chance", random.random)
        clock = await kit.step("clock", time.time)
        return f"{chance} {clock}"

    agent = scripted([], graph=single(node))
    answer, journal = await run_and_replay(allowing, agent, Calls())
    assert [e.kind for e in journal] == ["prepare", "value", "value"]
    assert answer.split()[0] == str(journal[1].result["value"])  # type: ignore[index,call-overload]  # a trace holds JSON


@pytest.mark.parametrize("slow", ["a", "b"])
async def test_a_race_replays_to_its_winner(allowing: Settings, slow: str) -> None:
    calls = Calls()
    calls.delays[slow] = 0.2

    async def node(kit: corral.Kit) -> str:
        tasks = {asyncio.create_task(kit.call(work(name))): name for name in "ab"}
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.wait(rest)
        return f"{tasks[done.pop()]} won"

    agent = scripted([], calls.tool(), graph=single(node))
    answer, journal = await run_and_replay(allowing, agent, calls)
    assert answer == ("b won" if slow == "a" else "a won")
    assert sorted(e.status for e in journal if e.kind == "tool") == ["cancelled", "finished"]


async def test_effects_of_one_node_are_given_back_in_the_order_of_their_ends(
    allowing: Settings,
) -> None:
    calls = Calls()
    calls.delays = {"a": 0.3, "b": 0.15, "c": 0.0}

    async def node(kit: corral.Kit) -> str:
        heard = []
        tasks = [asyncio.create_task(kit.call(work(name))) for name in "abc"]
        for ended in asyncio.as_completed(tasks):
            message = await ended
            heard.append(str(message.content))
            await kit.call(work(f"after {message.content}"))
        return ", ".join(heard)

    agent = scripted([], calls.tool(), graph=single(node), limits=corral.RunLimits(max_repeats=9))
    answer, _ = await run_and_replay(allowing, agent, calls)
    assert answer == "worked c, worked b, worked a"


async def test_a_timeout_that_was_waited_for_is_not_waited_for_again(allowing: Settings) -> None:
    calls = Calls()
    calls.delays["slow"] = 3600

    async def node(kit: corral.Kit) -> str:
        try:
            await asyncio.wait_for(kit.call(work("slow")), 0.3 if not calls.made else 1000)
        except TimeoutError:
            return str((await kit.call(work("instead"))).content)
        return "never"

    agent = scripted([], calls.tool(), graph=single(node))
    answer, journal = await run_and_replay(allowing, agent, calls)
    assert answer == "worked instead"
    assert [e.status for e in journal if e.kind == "tool"] == ["cancelled", "finished"]


async def test_a_node_that_is_tried_again_keeps_what_it_has_got(allowing: Settings) -> None:
    calls = Calls()
    tries: list[int] = []

    async def node(kit: corral.Kit) -> str:
        await kit.call(work("once"))
        tries.append(1)
        if len(tries) % 3:
            raise ConnectionError("flaky")
        await kit.call(work("then"))
        return "tried"

    retry = RetryPolicy(max_attempts=5, initial_interval=0.01, jitter=False)
    agent = scripted([], calls.tool(), graph=single(node, retry_policy=retry))
    answer, journal = await run_and_replay(allowing, agent, calls)
    assert answer == "tried"
    assert calls.made == ["once", "then"]
    assert [e.path for e in journal if e.kind == "tool"] == ["1.only#0", "1.only#1"]


class Healed:
    """The model of the name ``scripted``, when it answers again."""

    name = "scripted"
    context_window = 1000

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        yield FinalChunk(AIMessage("healthy"), Usage(1, 1))

    def check_complete(self, turns: int) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def test_a_failure_that_the_graph_went_on_from_stays_one(allowing: Settings) -> None:
    """Resumed after it, the run gets the failure again and not another try."""
    calls = Calls()
    broken = True

    async def node(kit: corral.Kit) -> str:
        try:
            answer = await kit.ask([AIMessage("first")])
        except corral.CorralError:
            await kit.call(work("fallback"))
            if broken:
                raise ConnectionError("the machine broke later") from None
            return "fell back"
        return str(answer.text)

    agent = scripted([{"error": "overloaded"}], calls.tool(), graph=single(node))
    healed = corral.Agent(
        functions=(calls.tool(),), servers=(), chat_model=Healed(), facts=0, graph=single(node)
    )
    async with corral.open(allowing) as c:
        failed = await c.run("Go.", corral.RunOptions(agent=agent))
        assert failed.status == "failed"
        broken = False
        result = await c.resume(failed.run, corral.RunOptions(agent=healed))
        assert (result.status, result.output) == ("completed", "fell back"), result.error
        assert calls.made == ["fallback"]
        report = await c.replay(result.run, corral.RunOptions(agent=healed))
        assert report.status == "identical", report.divergence


class Gathered(MessagesState):
    """What parallel branches gathered."""

    found: Annotated[list[str], add]


def fan_out(inner: bool) -> Callable[[corral.Kit], Any]:
    """Three branches, each with a graph of its own inside, as a node or by hand."""

    def build(kit: corral.Kit) -> Any:
        async def first(state: Any) -> dict[str, Any]:
            name = state["name"]
            await kit.call(work(f"{name}1"))
            return {"found": [name]}

        async def second(state: Any) -> dict[str, Any]:
            await kit.call(work(f"{state['found'][-1]}2"))
            return {}

        class Branch(Gathered):
            name: str

        branch = StateGraph(Branch)
        branch.add_node("first", first)
        branch.add_node("second", second)
        branch.add_edge(START, "first")
        branch.add_edge("first", "second")

        async def by_hand(state: dict[str, Any]) -> dict[str, Any]:
            done = await corral.subgraph(branch, state)
            again = await corral.subgraph(branch, {**state, "name": f"{state['name']}+"})
            return {"found": [*done["found"], *again["found"]]}

        async def end(state: Gathered) -> dict[str, Any]:
            return {"messages": [AIMessage(" ".join(sorted(state["found"])))]}

        graph = StateGraph(Gathered)
        graph.add_node("branch", branch.compile() if inner else by_hand)
        graph.add_node("end", end)
        sends = [Send("branch", {"name": name, "found": []}) for name in "xyz"]
        graph.add_conditional_edges(START, lambda _: sends, ["branch"])
        graph.add_edge("branch", "end")
        return graph

    return build


@pytest.mark.parametrize("inner", [True, False], ids=["as a node", "by hand"])
async def test_parallel_graphs_inside_of_a_graph(allowing: Settings, inner: bool) -> None:
    calls = Calls()
    calls.delays = {"x1": 0.1, "y2": 0.1}
    agent = scripted([], calls.tool(), graph=fan_out(inner))
    answer, journal = await run_and_replay(allowing, agent, calls)
    assert answer == ("x y z" if inner else "x x+ y y+ z z+")
    paths = {e.path for e in journal if e.kind == "tool"}
    assert "1.branch[2]#0/2.second#0" in paths
    assert len(paths) == len(calls.made) == (6 if inner else 12)


async def test_a_graph_that_is_invoked_past_corral_is_refused_by_name(allowing: Settings) -> None:
    async def node(kit: corral.Kit) -> str:
        inner = fan_out(inner=True)(kit).compile()
        await inner.ainvoke({})
        return "never"

    agent = scripted([], Calls().tool(), graph=single(node))
    async with corral.open(allowing) as c:
        result = await c.run("Go.", corral.RunOptions(agent=agent))
    assert result.status == "failed"
    assert "corral.subgraph" in str(result.error)


async def test_a_graph_that_leaves_by_itself_is_caught_in_the_replay(allowing: Settings) -> None:
    reached: list[str] = []

    async def node(kit: corral.Kit) -> str:
        try:
            await asyncio.open_connection("127.0.0.1", 9)
        except OSError:
            reached.append("the network")
        return "done"

    agent = scripted([], graph=single(node))
    async with corral.open(allowing) as c:
        result = await c.run("Go.", corral.RunOptions(agent=agent))
        assert (result.status, reached) == ("completed", ["the network"])
        report = await c.replay(result.run, corral.RunOptions(agent=agent))
    assert report.status == "diverged"
    assert "socket.connect" in str(report.divergence)
    assert reached == ["the network"]


def team(calls: Calls, lead: list[Any]) -> corral.Agent:
    """A lead with two sub-agents, each with a model and a tool of its own."""
    b = [work("b1"), work("b2")]
    one = scripted([turn("", work={"name": "a1"}), turn("A is done.")], calls.tool(), name="alice")
    two = scripted(
        [
            {"text": "", "tool_calls": [{k: c[k] for k in ("name", "args")} for c in b]},
            turn("B is done."),
        ],
        calls.tool(),
        name="bob",
    )
    return scripted(lead, calls.tool(), name="lead", agents=(one, two))


def both() -> list[Any]:
    tasks = [
        {"name": "agents__alice", "args": {"task": "Do a."}},
        {"name": "agents__bob", "args": {"task": "Do b."}},
    ]
    return [{"text": "", "tool_calls": tasks}, turn("", work={"name": "end"}), turn("All done.")]


async def test_parallel_sub_agents_with_a_question_in_one(settings: Settings) -> None:
    rules = [
        {"tool": "functions__*", "args": {"name": "b2"}, "action": "ask"},
        {"tool": "functions__*", "action": "allow"},
    ]
    asking = corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    )
    calls = Calls()
    options = corral.RunOptions(agent=team(calls, both()))
    async with corral.open(asking) as c:
        paused = await c.run("Go.", options)
        (question,) = paused.approvals
        assert (paused.status, question.args) == ("paused", {"name": "b2"})
        assert sorted(calls.made) == ["a1", "b1"]
        assert (await c.replay(paused.run)).status == "identical"
        await c.approve(question.id)
        events = [event async for event in c.stream_resume(paused.run, options)]
        result = events[-1].result  # type: ignore[union-attr]  # always the last
        assert (result.status, result.output) == ("completed", "All done."), result.error
        assert sorted(calls.made) == ["a1", "b1", "b2", "end"]
        assert result.steps == 7  # one ledger: the sub-agents' model calls count
        assert "A is done." not in [e.text for e in events if isinstance(e, ToolFinished)]
        report = await c.replay(result.run)
        assert (report.status, report.reused) == ("identical", report.effects), report.divergence


async def test_the_limits_of_a_run_hold_in_its_sub_agents(allowing: Settings) -> None:
    agent = team(Calls(), both())
    limits = corral.RunLimits(max_steps=2)
    async with corral.open(allowing) as c:
        stopped = await c.run("Go.", corral.RunOptions(agent=agent, limits=limits))
        assert (stopped.status, stopped.steps) == ("stopped", 6)  # two of each of three agents
        more = corral.RunOptions(agent=agent, limits=corral.RunLimits(max_steps=12))
        done = await c.resume(stopped.run, more)
        assert (done.status, done.output) == ("completed", "All done."), done.error
        assert (await c.replay(done.run)).status == "identical"


async def test_a_team_that_contains_itself_is_refused(workspace: Any, own_home: Any) -> None:
    agents = {"a": {"agents": ["b"]}, "b": {"agents": ["a"]}}
    settings = corral.load_settings({"home": own_home, "workspace": workspace, "agents": agents})
    async with corral.open(settings) as c:
        with pytest.raises(corral.CorralError, match="a → b → a"):
            await c.run("Go.", corral.RunOptions(agent="a"))


async def test_a_graph_gives_tasks_to_sub_agents(allowing: Settings) -> None:
    calls = Calls()
    helper = scripted([turn("", work={"name": "h"}), turn("Helped.")], calls.tool(), name="helper")

    async def node(kit: corral.Kit) -> str:
        first, second = await asyncio.gather(
            kit.delegate("helper", "Help."), kit.step("other", lambda: [1, {"two": 2}])
        )
        return f"{first} {second}"

    agent = scripted([], graph=single(node), agents=(helper,))
    answer, journal = await run_and_replay(allowing, agent, calls)
    assert answer == "Helped. [1, {'two': 2}]"
    assert [e.path for e in journal if e.kind == "tool"] == ["1.only#0/2.tools[0]#0"]


async def test_a_step_that_gives_no_json_says_so(allowing: Settings) -> None:
    async def node(kit: corral.Kit) -> str:
        return str(await kit.step("clock", object))  # type: ignore[arg-type]  # on purpose

    async with corral.open(allowing) as c:
        result = await c.run("Go.", corral.RunOptions(agent=scripted([], graph=single(node))))
    assert "which is not JSON" in str(result.error)


def clear_seen_variables() -> None:
    """Have langsmith look at the environment again."""
    get_env_var.cache_clear()  # type: ignore[attr-defined]  # its overloads hide the cache


async def test_nothing_of_a_run_or_its_replay_is_sent_to_langsmith(
    allowing: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    clear_seen_variables()
    seen: list[object] = []

    async def look(kit: corral.Kit) -> str:
        seen.append(tracing_is_enabled())
        return str((await kit.call(work("one"))).content)

    agent = scripted([], Calls().tool(), graph=single(look))
    try:
        assert tracing_is_enabled() is True
        await run_and_replay(allowing, agent, Calls())
    finally:
        clear_seen_variables()
    assert seen == [False, False]
