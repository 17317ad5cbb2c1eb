"""An agent that goes round in circles is told, then a human is asked, then it is stopped."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph

import corral
from corral.policies.loops import LoopSettings
from corral.runtime.config import Settings
from tests.runtime.agents import Listening, Turn, scripted, turn


class Door:
    """A tool that says what it is told to say, and how often it was really called."""

    def __init__(self, says: str = "closed") -> None:
        self.says = says
        self.calls = 0

    def tool(self) -> Any:
        """The tool ``knock``."""

        @corral.tool(read_only=True, open_world=False)
        def knock(at: str = "front") -> str:
            """Knock at a door."""
            self.calls += 1
            return f"{self.says} ({at})" if at != "front" else self.says

        return knock


def knocks(count: int) -> list[Turn]:
    return [turn("Knock.", knock={}) for _ in range(count)]


async def results(c: corral.Corral, run: str) -> list[str]:
    """What the calls of a run gave, in their order."""
    entries = await c.records.trace(run)
    calls = (one.result for one in entries if one.kind == "tool")
    return [str(result["text"]) for result in calls if isinstance(result, dict)]


async def test_first_the_model_is_told_then_a_human_is_asked_then_the_run_stops(
    settings: Settings,
) -> None:
    door = Door()
    options = corral.RunOptions(agent=scripted(knocks(12), door.tool()))
    async with corral.open(settings) as c:
        paused = await c.run("Knock.", options)
        assert (paused.status, paused.steps, door.calls) == ("paused", 5, 3)
        told = (await results(c, paused.run))[3]
        assert told.startswith("This call was not made: functions__knock was called 3 times")
        assert "Try something else" in told

        [question] = paused.approvals
        assert (question.kind, question.tool) == ("loop", "functions__knock")
        assert "seems to go round in circles" in question.reason
        await c.deny(question.id, "Nobody is at home.")

        stopped = await c.resume(paused.run, options)
        assert (stopped.status, stopped.steps, door.calls) == ("stopped", 6, 3)
        assert "functions__knock was called 3 times" in str(stopped.error)
        assert "Nobody is at home." in (await results(c, paused.run))[4]
        assert (await c.replay(paused.run, options)).status == "identical"


async def test_a_human_lets_it_go_on_for_as_many_again(settings: Settings) -> None:
    door = Door()
    agent = scripted([*knocks(8), turn("I give up.")], door.tool())
    options = corral.RunOptions(agent=agent)
    async with corral.open(settings) as c:
        paused = await c.run("Knock.", options)
        await c.approve(paused.approvals[0].id)
        done = await c.resume(paused.run, options)
        # Three, one that was told, three from the approved one on, and one that was told again.
        assert (done.status, door.calls) == ("completed", 6)
        assert (await c.replay(done.run, options)).status == "identical"


async def test_a_human_can_stop_the_run_at_the_question(settings: Settings) -> None:
    options = corral.RunOptions(agent=scripted(knocks(8), Door().tool()))
    async with corral.open(settings) as c:
        paused = await c.run("Knock.", options)
        await c.stop(paused.approvals[0].id, "Enough.")
        stopped = await c.records.run(paused.run)
        assert stopped.status == "stopped"


async def test_a_nudge_is_enough_for_a_model_that_listens(settings: Settings) -> None:
    door = Door()
    script = [*knocks(4), turn("The back, then.", knock={"at": "back"}), turn("Closed.")]
    options = corral.RunOptions(agent=scripted(script, door.tool()))
    async with corral.open(settings) as c:
        done = await c.run("Knock.", options)
        assert (done.status, done.output, door.calls) == ("completed", "Closed.", 4)


async def test_the_level_survives_a_restart_and_is_the_same_in_a_fork(
    settings: Settings,
) -> None:
    door = Door()
    short = corral.RunLimits(max_steps=4)
    agent = scripted(knocks(12), door.tool())
    options = corral.RunOptions(agent=agent, limits=corral.RunLimits(max_steps=12))
    async with corral.open(settings) as c:
        stopped = await c.run("Knock.", corral.RunOptions(agent=agent, limits=short))
        assert (stopped.status, stopped.steps, door.calls) == ("stopped", 4, 3)
        assert (await results(c, stopped.run))[-1].startswith("This call was not made")
    async with corral.open(settings) as c:  # nothing is left in memory
        paused = await c.resume(stopped.run, options)
        assert (paused.status, paused.approvals[0].kind, door.calls) == ("paused", "loop", 3)
        model = [one for one in await c.records.trace(stopped.run) if one.kind == "model"][4]
        forked = await c.fork(stopped.run, corral.Fork(at=model.seq), options)
        assert (forked.status, forked.approvals[0].kind, door.calls) == ("paused", "loop", 3)


async def test_a_tool_that_there_is_not_is_no_way_around(settings: Settings) -> None:
    agent = scripted([turn("Fly.", fly={}) for _ in range(8)], Door().tool())
    async with corral.open(settings) as c:
        paused = await c.run("Fly.", corral.RunOptions(agent=agent))
        assert (paused.status, paused.steps) == ("paused", 5)
        assert paused.approvals[0].tool == "functions__fly"


async def test_polling_goes_on(settings: Settings) -> None:
    door = Door("pending")
    options = corral.RunOptions(agent=scripted([*knocks(10), turn("Open.")], door.tool()))
    async with corral.open(settings) as c:
        assert (await c.run("Wait.", options)).status == "completed"
        assert door.calls == 10


async def test_tools_for_polling_patience_and_the_whole_watch_are_settings(
    settings: Settings,
) -> None:
    for loops in ({"polling": ["functions__knock"]}, {"enabled": False}):
        door = Door()
        agent = scripted([*knocks(10), turn("Open.")], door.tool(), loops=loops)
        async with corral.open(settings) as c:
            done = await c.run("Knock.", corral.RunOptions(agent=agent))
            assert (done.status, door.calls) == ("completed", 10)
    at_once = settings.model_copy(update={"loops": LoopSettings(ask_after=1, stop_after=1)})
    async with corral.open(at_once) as c:
        agent = scripted(knocks(5), Door().tool())
        assert (await c.run("Knock.", corral.RunOptions(agent=agent))).status == "stopped"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[loops]\nenabled = false\n", "loops"),
        ("[agents.a.loops]\npolling = ['*']\n", "agents.a.loops"),
    ],
)
def test_a_project_does_not_turn_the_watch_off(settings: Settings, text: str, key: str) -> None:
    (settings.workspace / "corral.toml").write_text(text)
    with pytest.raises(corral.CorralError, match=f"may not set {key}"):
        corral.load_settings({"workspace": settings.workspace})


async def test_a_stall_is_told_with_the_next_question_and_not_in_the_request(
    settings: Settings,
) -> None:
    @corral.tool(read_only=True, open_world=False)
    def look(name: str) -> str:
        """Look for something."""
        return "No results."

    names = ["kiwi", "lemon", "mango", "nectarine", "olive", "papaya", "quince", "rowan", "sloe"]
    model = Listening([*(turn(f"Is it a {name}?", look={"name": name}) for name in names), turn()])
    agent = corral.Agent(functions=(look,), servers=(), chat_model=model, facts=0)
    options = corral.RunOptions(agent=agent)
    async with corral.open(settings) as c:
        done = await c.run("Find a fruit.", options)
        assert done.status == "completed"
        note = "8 calls of functions__look in a row found nothing"
        assert [note in heard for heard in model.heard] == [False] * 8 + [True, False]
        assert (await c.replay(done.run, options)).status == "identical"


async def test_sub_agents_are_watched_each_for_itself(settings: Settings) -> None:
    door = Door()
    helper = scripted(
        [*knocks(2), turn("Closed.")], door.tool(), name="helper", description="Knocks."
    )
    ask = {"name": "agents__helper", "args": {"task": "Knock twice."}}
    other = {"name": "agents__helper", "args": {"task": "Knock twice more."}}
    boss = corral.Agent(
        name="boss",
        servers=(),
        facts=0,
        agents=(helper,),
        chat_model=corral.ScriptedModel([{"tool_calls": [ask, other]}, turn("Nobody is in.")]),
    )
    async with corral.open(settings) as c:
        done = await c.run("Is anybody in?", corral.RunOptions(agent=boss))
        assert (done.status, door.calls) == ("completed", 4)


@pytest.mark.parametrize(("own", "steps"), [(None, 8), (2, 2)])
async def test_the_step_limit_counts_for_each_agent(
    settings: Settings, own: int | None, steps: int
) -> None:
    door = Door()
    limits = None if own is None else corral.RunLimits(max_steps=own)
    helper = scripted(
        [turn("Knock.", knock={"at": f"{n}"}) for n in range(7)] + [turn("Closed.")],
        door.tool(),
        name="helper",
        limits=limits,
    )
    boss = corral.Agent(
        name="boss",
        servers=(),
        facts=0,
        agents=(helper,),
        chat_model=corral.ScriptedModel(
            [
                *({"tool_calls": [_task(n)]} for n in range(2)),
                turn("Nobody is in."),
            ]
        ),
    )
    async with corral.open(settings) as c:
        result = await c.run("Is anybody in?", corral.RunOptions(agent=boss))
        assert result.status == "completed"
        assert result.steps == 3 + 2 * steps  # together more than 12, which each may make
        trace = await c.records.trace(result.run)
        told = [str(view.result) for view in trace if view.kind == "agent"]
        reached = "The agent helper has made 2 model calls"
        assert [reached in text for text in told] == [own is not None] * 2


def _task(number: int) -> dict[str, Any]:
    return {"name": "agents__helper", "args": {"task": f"Knock at house {number}."}}


async def test_branches_that_are_refused_at_once_are_one_alarm(settings: Settings) -> None:
    door = Door()
    knock = {"name": "functions__knock", "args": {}}
    script = [{"text": "Both at once.", "tool_calls": [knock, knock]} for _ in range(8)]
    options = corral.RunOptions(agent=scripted(script, door.tool()))
    async with corral.open(settings) as c:
        paused = await c.run("Knock.", options)
        # Twice two were made, two were refused, and the next two are asked about.
        assert (paused.status, paused.steps, door.calls) == ("paused", 4, 4)
        assert [one.kind for one in paused.approvals] == ["loop", "loop"]
        for one in paused.approvals:
            await c.deny(one.id, "No.")
        stopped = await c.resume(paused.run, options)
        assert (stopped.status, stopped.steps, door.calls) == ("stopped", 5, 4)
        assert (await c.replay(paused.run, options)).status == "identical"


async def test_a_model_that_talks_to_itself_is_told_asked_about_and_stopped(
    settings: Settings,
) -> None:
    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await kits[0].ask(state["messages"])]}

    def build(kit: corral.Kit) -> StateGraph[Any, Any, Any, Any]:
        kits.insert(0, kit)
        graph = StateGraph(MessagesState)
        graph.add_node("think", think)
        graph.add_edge(START, "think")
        graph.add_edge("think", "think")
        return graph

    kits: list[corral.Kit] = []
    model = Listening([turn("Let me think about that once more.") for _ in range(12)])
    agent = corral.Agent(graph=build, servers=(), chat_model=model, facts=0)
    options = corral.RunOptions(agent=agent)
    async with corral.open(settings) as c:
        paused = await c.run("Think.", options)
        assert (paused.status, paused.steps) == ("paused", 6)
        assert "the same text was given 3 times" in model.heard[3]
        assert "the same text" in paused.approvals[0].reason
        await c.deny(paused.approvals[0].id, "Give the answer now.")
        stopped = await c.resume(paused.run, options)
        assert (stopped.status, stopped.steps) == ("stopped", 9)
        assert "Give the answer now." in model.heard[6]
        assert (await c.replay(paused.run, options)).status == "identical"
