"""Plan and execute: the order of steps, what ends it, new plans, and whatever models give."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import corral
from corral.agents.patterns.plan_execute import PlannedStep, numbered, ready
from corral.runtime.config import Settings
from corral.runtime.models.contract import ModelRequest
from tests.agents.patterns.support import (
    Answering,
    Garbage,
    allowing,
    answers,
    approved,
    cut_and_resumed,
    deciding,
    replayed,
    solved,
    solved_in,
    text_of,
    wants,
)
from tests.runtime.agents import Turn, turn


def planned(task: str, *after: int, worker: str = "") -> dict[str, Any]:
    return {"task": task, "after": list(after), "worker": worker}


def now(request: ModelRequest) -> str:
    """The step that is asked for; empty where none is."""
    before, _, step = text_of(request).rpartition("<step>\n")
    return step.partition("\n</step>")[0] if before else ""


def planner(
    plan: Sequence[dict[str, Any]],
    reviews: Callable[[int], Turn] = lambda _: deciding(decision="continue"),
) -> Answering:
    """A model that gives this plan, does steps, and gives review N (from 0) of its script."""
    seen: dict[str, int] = {}

    def reply(request: ModelRequest) -> Turn | str:
        match wants(request):
            case "Plan":
                return deciding(tasks=list(plan))
            case "Review":
                return reviews(seen.setdefault(text_of(request), len(seen)))
        text = text_of(request)
        if now(request):
            return f"did {now(request)}"
        return "Answer of " + ", ".join(part for part in text.split("\n") if part.startswith("did"))

    return Answering(reply)


def planning(model: Any, *functions: Any, **fields: Any) -> corral.Agent:
    options = fields.pop("options", {})
    return answers(model, *functions, pattern="plan_execute", options=options, **fields)


async def test_steps_run_in_order_and_the_answer_is_made_of_them(settings: Settings) -> None:
    model = planner([planned("a"), planned("b", 1), planned("c", 2)])
    done = await solved(settings, planning(model, options={"replans": 0}))
    assert done.output == "Answer of did a, did b, did c"
    assert done.aloud == [done.output]
    steps = [request for request in model.asked if request.output is None]
    assert "did a" in text_of(steps[1])
    assert [wants(request) for request in model.asked].count("Review") == 2


def test_a_step_comes_after_the_one_before_unless_it_says_otherwise() -> None:
    steps = [PlannedStep(task="a"), PlannedStep(task="b"), PlannedStep(task="c", after=[])]
    assert [step["after"] for step in numbered(steps, (), 1)] == [[], [1], []]


def test_unknown_references_and_blank_steps_are_dropped() -> None:
    steps = [
        PlannedStep(task=" "),
        PlannedStep(task="a", after=[7, 0, -1, 2], worker="nobody"),
        PlannedStep(task="b", after=[1, 2]),
    ]
    assert numbered(steps, ("somebody",), 5) == [
        {"number": 5, "task": "a", "worker": "", "after": []},
        {"number": 6, "task": "b", "worker": "", "after": [5]},
    ]


@given(st.lists(st.none() | st.lists(st.integers(-1, 9), max_size=5), max_size=8))
def test_every_step_of_any_plan_is_done_once(references: list[list[int] | None]) -> None:
    """Also of plans that go round in circles; what can be is done in order."""
    plan = numbered([PlannedStep(task="do", after=after) for after in references], (), 1)
    finished: list[int] = []
    while batch := ready(plan, set(finished)):
        free = [one for one in batch if set(one["after"]) <= set(finished)]
        assert free == batch or len(batch) == 1
        finished += [step["number"] for step in batch]
    assert sorted(finished) == list(range(1, len(plan) + 1))


async def test_steps_that_need_nothing_of_one_another_run_at_the_same_time(
    settings: Settings,
) -> None:
    together = asyncio.Barrier(2)

    @corral.tool(read_only=True)
    async def meet() -> str:
        """Wait for the other."""
        await together.wait()
        return "met"

    def reply(request: ModelRequest) -> Turn | str:
        if now(request) in ("a", "b") and request.messages[-1].type != "tool":
            return turn(meet={})
        return inner.reply(request)

    inner = planner([planned("a"), planned("b"), planned("c", 1, 2)])
    done = await solved(settings, planning(Answering(reply), meet, options={"replans": 0}))
    assert done.output == "Answer of did a, did b, did c"


async def test_no_more_steps_at_once_than_allowed(settings: Settings) -> None:
    running, most, two = [0], [0], asyncio.Event()

    @corral.tool(read_only=True)
    async def work() -> str:
        """Work until two have begun."""
        running[0] += 1
        most[0] = max(most[0], running[0])
        if running[0] == 2:
            two.set()
        await two.wait()
        running[0] -= 1
        return "worked"

    def reply(request: ModelRequest) -> Turn | str:
        if now(request) and request.messages[-1].type != "tool" and request.output is None:
            return turn(work={})
        return inner.reply(request)

    inner = planner([planned(f"step {n}") for n in range(6)])
    options = {"parallel": 2, "replans": 0}
    done = await solved(settings, planning(Answering(reply), work, options=options))
    assert done.output.count("did") == 6
    assert most == [2]


async def test_a_review_can_finish_early(settings: Settings) -> None:
    model = planner([planned("a"), planned("b", 1)], lambda _: deciding(decision="finish"))
    assert (await solved(settings, planning(model))).output == "Answer of did a"


async def test_new_plans_are_bounded(settings: Settings) -> None:
    def again(number: int) -> Turn:
        return deciding(decision="replan", tasks=[planned(f"more {number}")])

    model = planner([planned("a")], again)
    done = await solved(settings, planning(model, options={"replans": 2}))
    assert done.output == "Answer of did a, did more 0, did more 1"


async def test_steps_are_bounded(settings: Settings) -> None:
    def again(number: int) -> Turn:
        return deciding(decision="replan", tasks=[planned(f"more {n}") for n in range(9)])

    model = planner([planned(f"step {n}") for n in range(9)], again)
    options = {"replans": 20, "steps": 10, "plan_length": 4}
    done = await solved(settings, planning(model, options=options))
    assert done.output.count("did") == 10


async def test_a_new_plan_without_steps_keeps_the_old_one(settings: Settings) -> None:
    model = planner([planned("a"), planned("b", 1)], lambda _: deciding(decision="replan"))
    assert (await solved(settings, planning(model))).output == "Answer of did a, did b"


@pytest.mark.parametrize("nonsense", ["", "no JSON", '{"tasks": 7}', '{"tasks": [{"task": ""}]}'])
async def test_a_plan_that_cannot_be_read_is_the_request_as_one_step(
    settings: Settings, nonsense: str
) -> None:
    model = Garbage(nonsense, draft="A draft.")
    done = await solved(settings, planning(model), "Do it all.")
    assert done.output == "A draft."
    assert "Do it all." in [now(request) for request in model.asked]


async def test_reviews_that_cannot_be_read_let_the_plan_go_on(settings: Settings) -> None:
    model = planner([planned("a"), planned("b", 1)], lambda _: turn("no JSON"))
    assert (await solved(settings, planning(model))).output == "Answer of did a, did b"


async def test_workers_do_steps_and_what_fails_reaches_the_planner(settings: Settings) -> None:
    good = answers(Answering(lambda _: "did it well"), name="good", description="Works.")
    bad = answers(Answering(lambda _: {"error": "It is down."}), name="bad")
    plan = [
        planned("a", worker="good"),
        planned("b", worker="bad"),
        planned("c", worker="nobody"),
    ]
    model = planner(plan, lambda _: deciding(decision="finish"))
    done = await solved(settings, planning(model, agents=(good, bad)))
    assert done.output == "Answer of did it well, did c"
    asked = next(text_of(request) for request in model.asked if wants(request) == "Plan")
    assert "- good: Works." in asked
    review = next(text_of(request) for request in model.asked if wants(request) == "Review")
    assert "<failure>\nThe agent bad could not go on." in review


async def test_a_planner_of_its_own(settings: Settings) -> None:
    own = answers(planner([planned("a")], lambda _: deciding(decision="finish")), name="planner")
    model = planner([])
    agent = planning(model, agents=(own,), options={"planner": "planner"})
    done = await solved(settings, agent)
    assert done.output == "Answer of did a"
    assert "Plan" not in map(wants, model.asked)


async def test_a_planner_that_fails_leaves_the_request_as_one_step(settings: Settings) -> None:
    own = answers(Answering(lambda _: {"error": "It is down."}), name="planner")
    agent = planning(planner([]), agents=(own,), options={"planner": "planner"})
    assert (await solved(settings, agent)).output == "Answer of did Go."


@corral.tool(read_only=True)
def look(at: str) -> str:
    """Look at something."""
    return f"seen {at}"


def looking(request: ModelRequest) -> Turn | str:
    if now(request) and request.output is None and request.messages[-1].type != "tool":
        return turn(look={"at": now(request)})
    return planner([planned("a"), planned("b"), planned("c", 1, 2)]).reply(request)


@pytest.mark.parametrize("after", range(1, 13, 2))
async def test_cut_off_anywhere_and_resumed(settings: Settings, after: int) -> None:
    agent = planning(Answering(looking), look, options={"replans": 0})
    done = await cut_and_resumed(settings, agent, after)
    assert done.output == "Answer of did a, did b, did c"


def pay(amount: int) -> str:
    """Pay an amount."""
    return f"paid {amount}"


def paying(request: ModelRequest) -> Turn | str:
    return turn("did pay") if "paid 3" in text_of(request) else turn(pay={"amount": 3})


async def test_approvals_inside_of_parallel_workers(settings: Settings) -> None:
    worker = answers(Answering(paying), pay, name="payer")
    model = planner([planned(f"pay {n}", worker="payer") for n in range(2)])
    agent = planning(model, agents=(worker,), options={"replans": 0})
    assert await approved(settings, agent, "pay") == 2


async def test_nothing_of_a_prompt_leaks_into_the_next(settings: Settings) -> None:
    model = planner([planned("a"), planned("b")], lambda _: deciding(decision="replan"))
    agent = planning(model, options={"steps": 3, "replans": 1})
    async with corral.open(settings) as c:
        first = await solved_in(c, agent, "First.")
        second = await solved_in(c, agent, "Second.", thread=first.result.thread)
    assert first.output == second.output == "Answer of did a, did b"


async def test_cancelling_cancels_the_steps(settings: Settings) -> None:
    begun, ended = asyncio.Barrier(3), [0]

    @corral.tool(read_only=True)
    async def wait() -> str:
        """Wait for ever."""
        try:
            await begun.wait()
            await asyncio.Event().wait()
        finally:
            ended[0] += 1
        return "never"

    def reply(request: ModelRequest) -> Turn | str:
        return turn(wait={}) if request.output is None else model.reply(request)

    model = planner([planned("a"), planned("b")])
    agent = planning(Answering(reply), wait)
    async with corral.open(allowing(settings)) as c:
        task = asyncio.ensure_future(c.run("Go.", corral.RunOptions(agent=agent)))
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        assert ended == [2]
        (run,) = await c.records.runs()
        await replayed(c, run.run, agent)
