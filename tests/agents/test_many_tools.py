"""Agents with many tools: what they are offered, find, keep, resume and replay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph

import corral
from corral.agents.options import RunOptions
from corral.runtime.config import Settings
from corral.runtime.models.contract import Chunk, ModelRequest
from corral.runtime.tool_costs import tool_costs
from corral.runtime.views import RunResult
from tests.runtime.agents import Turn, turn

JOBS = {
    "send_email": "Send an email message.",
    "read_email": "Read an email message.",
    "create_event": "Create a calendar event.",
    "delete_event": "Delete a calendar event.",
    "get_forecast": "Get the weather forecast for a city.",
    "search_flights": "Search for flights between airports.",
    "play_music": "Play a track or an album.",
    "translate_text": "Translate a text into another language.",
    "resize_image": "Change the width and height of an image.",
    "merge_pdfs": "Merge PDF files into one.",
    "refund_payment": "Refund a payment of a customer.",
    "restart_server": "Restart a server.",
}
WEATHER = "What will the weather be in Lyon?"
FLIGHT = "Find me flights from the airport of Oslo."


class Offered(corral.ScriptedModel):
    """A scripted model that keeps the names of the tools that it is offered each time."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        super().__init__(turns)
        self.tools: list[list[str]] = []

    def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Keep the tools, and answer as the script says."""
        self.tools.append([spec.name.removeprefix("functions__") for spec in request.tools])
        return super().stream(request)


def job(name: str, description: str, **marks: Any) -> Callable[..., Any]:
    """A tool that says what it was asked to do."""

    def done(what: str) -> str:
        return f"{name}: {what}"

    done.__doc__ = description
    return corral.tool(name=name, **{"read_only": True, **marks})(done)


def worker(turns: Sequence[Turn], **fields: Any) -> tuple[corral.Agent, Offered]:
    """An agent with all jobs as tools, some three of which it is offered at once."""
    model = Offered(turns)
    tools = tuple(job(name, description) for name, description in JOBS.items())
    given = {"facts": 0, "offered": 3, "functions": tools, "servers": (), **fields}
    return corral.Agent(chat_model=model, **given), model


def finding(query: str) -> Turn:
    """A turn that looks for a tool."""
    return {"tool_calls": [{"name": "tools__find", "args": {"query": query}}]}


async def say(
    app: corral.Corral, agent: corral.Agent, prompt: str, thread: str | None = None
) -> RunResult:
    """A run to its end, or to its pause."""
    return await app.run(prompt, RunOptions(agent=agent, thread=thread))


async def kinds(app: corral.Corral, run: str) -> list[str]:
    """The kinds of a run's effects, in their order."""
    return [effect.kind for effect in await app.records.trace(run)]


async def test_what_fits_is_offered_and_the_search_for_the_rest(settings: Settings) -> None:
    agent, model = worker([turn("It rains.")])
    async with corral.open(settings) as app:
        done = await say(app, agent, WEATHER)
        assert await kinds(app, done.run) == ["prepare", "retrieval", "model"]
    (offered,) = model.tools
    assert (len(offered), offered[0]) == (3, "tools__find")
    assert "get_forecast" in offered


@pytest.mark.parametrize(
    "fields",
    [{"offered": 0}, {"offered": 12}, {"tools": tuple(f"functions__{name}" for name in JOBS)}],
    ids=["routing is off", "few tools", "named by the agent"],
)
async def test_all_are_offered_to_an_agent_that_needs_no_choice(
    settings: Settings, fields: dict[str, Any]
) -> None:
    agent, model = worker([turn("It rains.")], **fields)
    async with corral.open(settings) as app:
        done = await say(app, agent, WEATHER)
        assert await kinds(app, done.run) == ["prepare", "model"]
    assert model.tools == [list(JOBS)]


async def test_the_settings_say_how_many_and_which_always(settings: Settings) -> None:
    tools = settings.tools.model_copy(update={"offered": 2, "always": ("functions__merge_*",)})
    agent, model = worker([turn("It rains.")], offered=None)
    async with corral.open(settings.model_copy(update={"tools": tools})) as app:
        await say(app, agent, WEATHER)
    (offered,) = model.tools
    assert len(offered) == 3
    assert offered[:2] == ["merge_pdfs", "tools__find"]
    assert "get_forecast" in offered


async def test_sub_agents_are_always_offered(settings: Settings) -> None:
    helper = corral.Agent(name="helper", description="Counts beans.", servers=())
    agent, model = worker([turn("It rains.")], agents=(helper,))
    async with corral.open(settings) as app:
        await say(app, agent, WEATHER)
    assert "agents__helper" in model.tools[0]


async def test_what_the_model_finds_is_offered_from_then_on(settings: Settings) -> None:
    script = [
        finding("give a customer money back"),
        turn(refund_payment={"what": "order 7"}),
        turn("Done."),
    ]
    agent, model = worker(script)
    async with corral.open(settings) as app:
        done = await say(app, agent, WEATHER)
        await say(app, agent, "Thank you for the weather!", done.thread)
        effects = {effect.name: effect for effect in await app.records.trace(done.run)}
    before, *after = model.tools[:3]
    assert "refund_payment" not in before
    # The list has grown at its end: what a cache knows of it is still so.
    assert all(names[: len(before)] == before for names in after)
    assert all("refund_payment" in names for names in after)
    # There is no room for all that was found, but what was used stays.
    assert "refund_payment" in model.tools[3]
    found = effects["tools__find"].result
    assert isinstance(found, dict)
    assert "functions__refund_payment(what): Refund a payment" in str(found["text"])
    given = effects["functions__refund_payment"].result
    assert isinstance(given, dict)
    assert given["text"] == "refund_payment: order 7"


async def test_a_tool_that_is_not_offered_can_be_called_and_then_is(settings: Settings) -> None:
    agent, model = worker([turn(restart_server={"what": "web-1"}), turn("Done.")])
    async with corral.open(settings) as app:
        done = await say(app, agent, WEATHER)
    assert done.output == "Done."
    before, after = model.tools
    assert "restart_server" not in before
    assert after == [*before, "restart_server"]


async def test_a_call_that_was_not_offered_is_checked_and_asked_about_like_any(
    settings: Settings,
) -> None:
    script = [turn(wipe_disk={"what": "all"}), turn("It was not allowed.")]
    functions = (*worker([])[0].functions, job("wipe_disk", "Wipe a disk.", read_only=False))
    agent, _ = worker(script, functions=functions)
    async with corral.open(settings) as app:
        paused = await say(app, agent, WEATHER)
        assert paused.status == "paused"
        (question,) = await app.approvals()
        assert question.tool == "functions__wipe_disk"


async def test_a_tool_that_does_not_exist_is_said_to_be_found_by_search(
    settings: Settings,
) -> None:
    agent, _ = worker([turn(fly_to_moon={"what": "now"}), turn("I cannot.")])
    async with corral.open(settings) as app:
        done = await say(app, agent, WEATHER)
        effects = await app.records.trace(done.run)
    (wrong,) = [effect.result for effect in effects if effect.kind == "tool"]
    assert isinstance(wrong, dict)
    assert wrong["is_error"]
    assert (
        wrong["text"] == "There is no tool 'functions__fly_to_moon'. Look for one with tools__find."
    )


async def test_the_next_prompt_adds_at_the_end_until_there_is_no_room(settings: Settings) -> None:
    prompts = (WEATHER, FLIGHT, "Translate this text.", "Merge two PDF files.")
    agent, model = worker([turn("Yes.") for _ in prompts])
    thread = None
    async with corral.open(settings) as app:
        for prompt in prompts:
            thread = (await say(app, agent, prompt, thread)).thread
    first, second, *_, last = model.tools
    assert second[: len(first)] == first
    assert "search_flights" in second
    assert "merge_pdfs" in last
    assert all(len(names) <= 1 + 2 * 3 for names in model.tools)


async def test_a_paused_run_goes_on_with_the_tools_it_had(settings: Settings) -> None:
    script = [finding("give money back"), turn(wipe_disk={"what": "all"}), turn("Done.")]
    functions = (*worker([])[0].functions, job("wipe_disk", "Wipe a disk.", read_only=False))
    agent, model = worker(script, functions=functions)
    async with corral.open(settings) as app:
        paused = await say(app, agent, WEATHER)
        (question,) = await app.approvals()
        await app.approve(question.id)
    # Other settings would choose otherwise; what was chosen is in the journal.
    changed = settings.tools.model_copy(update={"always": ("functions__*",)})
    again, resumed = worker(script, functions=functions)
    async with corral.open(settings.model_copy(update={"tools": changed})) as app:
        done = await app.resume(paused.run, RunOptions(agent=again))
        report = await app.replay(paused.run, RunOptions(agent=again))
    assert (done.status, report.status) == ("completed", "identical")
    assert resumed.tools[-1] == [*model.tools[-1], "wipe_disk"]


async def test_a_conversation_replays_identically(settings: Settings) -> None:
    agent, _ = worker(
        [finding("music"), turn(play_music={"what": "jazz"}), turn("So."), turn("Ok")]
    )
    async with corral.open(settings) as app:
        first = await say(app, agent, WEATHER)
        second = await say(app, agent, FLIGHT, first.thread)
        for run in (first.run, second.run):
            assert (await app.replay(run, RunOptions(agent=agent))).status == "identical"


def asking(kit: corral.Kit) -> StateGraph[Any]:
    """A graph of one's own: ask, make the calls, ask again."""

    async def work(state: MessagesState) -> Any:
        messages = list(state["messages"])
        while True:
            answer = await kit.ask(messages, tools=True)
            messages.append(answer)
            if not answer.tool_calls:
                return {"messages": messages[len(state["messages"]) :]}
            messages += [await kit.call(dict(call)) for call in answer.tool_calls]

    graph: StateGraph[Any] = StateGraph(MessagesState)
    graph.add_node("work", work)
    graph.add_edge(START, "work")
    return graph


async def test_a_graph_of_ones_own_is_offered_and_finds_tools_too(settings: Settings) -> None:
    script = [finding("refund"), turn(refund_payment={"what": "order 7"}), turn("Done.")]
    agent, model = worker(script, graph=asking)
    async with corral.open(settings) as app:
        done = await say(app, agent, WEATHER)
        assert done.output == "Done."
        assert (await app.replay(done.run, RunOptions(agent=agent))).status == "identical"
    before, *after = model.tools
    assert "get_forecast" in before
    assert "refund_payment" not in before
    assert all(names[: len(before)] == before for names in after)
    assert all("refund_payment" in names for names in after)


async def test_a_sub_agent_is_offered_what_fits_its_own_task(settings: Settings) -> None:
    helper, inner = worker([turn("It rains.")], name="helper")
    task = {"name": "agents__helper", "args": {"task": WEATHER}}
    outer = corral.ScriptedModel([{"tool_calls": [task]}, turn("Rain.")])
    boss = corral.Agent(name="boss", servers=(), facts=0, agents=(helper,), chat_model=outer)
    async with corral.open(settings) as app:
        done = await say(app, boss, "Ask somebody.")
        assert (await app.replay(done.run, RunOptions(agent=boss))).status == "identical"
        costs = tool_costs(await app.records.trace(done.run)).values()
    assert len(costs) == 3
    assert done.tool_tokens == sum(cost.tokens for cost in costs)
    (offered,) = inner.tools
    assert len(offered) == 3
    assert "get_forecast" in offered


async def test_a_trace_says_what_was_offered_and_what_it_cost(settings: Settings) -> None:
    agent, _ = worker([turn("It rains.")])
    async with corral.open(settings) as app:
        done = await say(app, agent, WEATHER)
        effects = await app.records.trace(done.run)
    (cost,) = tool_costs(effects).values()
    assert (cost.offered, cost.known) == (3, len(JOBS) + 1)
    assert cost.in_words() == f"3 of 13 tools, ~{cost.tokens:,} tokens"
    assert done.tool_tokens == cost.tokens > 0
    damaged = [replace(effect, result={"tools": [1, {"no": "tool"}]}) for effect in effects]
    assert tool_costs(damaged) == {}
