"""Two runs compared: where they part, what belongs together after that, what each used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

import corral
from corral.runtime.comparison import Comparison, compare
from corral.runtime.config import Settings
from corral.runtime.tables import effects
from corral.runtime.views import EffectView, RunView, Totals
from tests.runtime.agents import Ledger, Turn, scripted, turn

SCRIPT: list[Turn] = [
    turn("First.", pay={"amount": 1}),
    turn("Second.", pay={"amount": 2}),
    turn("Paid."),
]


@pytest.fixture
def allowing(settings: Settings) -> Settings:
    """Settings that let every function through."""
    rules = [{"tool": "functions__*", "action": "allow"}]
    return corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    )


async def compared(c: corral.Corral, a: str, b: str) -> Comparison:
    one, two = await c.records.run(a), await c.records.run(b)
    return compare(one, await c.records.trace(a), two, await c.records.trace(b))


def shape(found: Comparison) -> list[tuple[str, str]]:
    """Each pair from where the runs part: how it stands, and what it is."""
    return [
        (pair.verdict, f"{one.kind} {one.name}".removesuffix(" scripted"))
        for pair in found.pairs
        for one in [pair.a or pair.b]
        if one is not None
    ]


def changed(found: Comparison) -> list[tuple[str, Any, Any]]:
    return [(one.aspect, one.a, one.b) for pair in found.pairs for one in pair.changes]


async def test_a_run_is_identical_to_itself_and_to_one_that_did_the_same(
    allowing: Settings,
) -> None:
    async with corral.open(allowing) as c:
        first = await c.run("Pay.", corral.RunOptions(agent=scripted(SCRIPT, *Ledger().tools())))
        again = await c.run("Pay.", corral.RunOptions(agent=scripted(SCRIPT, *Ledger().tools())))
        other = await c.run("Pay!", corral.RunOptions(agent=scripted(SCRIPT, *Ledger().tools())))
        itself = await compared(c, first.run, first.run)
        same = await compared(c, first.run, again.run)
        differs = await compared(c, first.run, other.run)
    assert (itself.identical, itself.shared, itself.pairs) == (True, itself.common, ())
    assert (same.identical, same.shared, same.pairs) == (True, 0, ())
    assert same.common == len(SCRIPT) + 2 + 1
    assert same.figures_a.tool_calls == 2
    assert same.figures_b.minus(same.figures_a).steps == 0
    # The prompt is said once, though every model call has it.
    assert not differs.identical
    assert [name for name, _, _ in changed(differs)] == ["prompt"]
    assert [verdict for verdict, _ in shape(differs)][:2] == ["changed", "same"]


async def test_a_fork_parts_from_its_parent_where_it_was_forked(allowing: Settings) -> None:
    ledger = Ledger()
    options = corral.RunOptions(agent=scripted(SCRIPT, *ledger.tools()))
    async with corral.open(allowing) as c:
        run = await c.run("Pay.", options)
        calls = [one for one in await c.records.trace(run.run) if one.kind == "tool"]
        fork = await c.fork(run.run, corral.Fork(at=calls[1].seq, result="no money"), options)
        found = await compared(c, run.run, fork.run)
        backwards = await compared(c, fork.run, run.run)
        prompt = await c.fork(run.run, corral.Fork(at=calls[1].seq + 1, prompt="Stop."), options)
        asked = await compared(c, run.run, prompt.run)
    assert (found.common, found.shared) == (4, 4)
    assert found.last_a == found.last_b == calls[1].seq - 1
    assert shape(found) == [("changed", "tool functions__pay"), ("same", "model")]
    assert changed(found) == [("result", "paid 2", "no money")]
    assert changed(backwards) == [("result", "no money", "paid 2")]
    assert found.figures_b.steps == 3
    assert found.figures_b.wall_ms > 0
    ((name, before, after),) = changed(asked)
    assert name == "prompt"
    assert (before[-1]["text"], after[-1]["text"]) == ("Pay.", "Stop.")


async def test_a_round_more_does_not_shift_what_follows(allowing: Settings) -> None:
    longer = [SCRIPT[0], turn("Look.", balance={}), *SCRIPT[1:]]
    async with corral.open(allowing) as c:
        a = await c.run("Pay.", corral.RunOptions(agent=scripted(SCRIPT, *Ledger().tools())))
        b = await c.run("Pay.", corral.RunOptions(agent=scripted(longer, *Ledger().tools())))
        found = await compared(c, a.run, b.run)
    assert shape(found) == [
        ("only_b", "model"),
        ("only_b", "tool functions__balance"),
        ("same", "model"),
        ("same", "tool functions__pay"),
        ("same", "model"),
    ]
    assert found.pairs[2].a is not None
    assert found.pairs[2].b is not None
    assert found.pairs[2].a.path != found.pairs[2].b.path
    assert (found.figures_b.tool_calls, found.figures_a.tool_calls) == (3, 2)


async def test_parallel_calls_in_another_number_and_order(allowing: Settings) -> None:
    def together(*amounts: int) -> list[Turn]:
        calls = [{"name": "functions__pay", "args": {"amount": one}} for one in amounts]
        return [{"text": "Pay.", "tool_calls": calls}, turn("Paid.")]

    async with corral.open(allowing) as c:
        runs = [
            await c.run("Pay.", corral.RunOptions(agent=scripted(script, *Ledger().tools())))
            for script in (together(1, 2, 3), together(3, 1))
        ]
        found = await compared(c, runs[0].run, runs[1].run)
    calls = [
        pair for pair in found.pairs if "tool" in {one.kind for one in (pair.a, pair.b) if one}
    ]
    assert [pair.verdict for pair in calls] == ["same", "only_a", "same"]
    assert [pair.a.to_json()["request"]["args"] for pair in calls if pair.a] == [
        {"amount": 1},
        {"amount": 2},
        {"amount": 3},
    ]


async def test_a_run_that_is_the_beginning_of_another(allowing: Settings) -> None:
    async with corral.open(allowing) as c:
        agent = scripted(SCRIPT, *Ledger().tools())
        short = await c.run(
            "Pay.", corral.RunOptions(agent=agent, limits=corral.RunLimits(max_steps=1))
        )
        whole = await c.run("Pay.", corral.RunOptions(agent=scripted(SCRIPT, *Ledger().tools())))
        found = await compared(c, short.run, whole.run)
    assert {verdict for verdict, _ in shape(found)} == {"only_b"}
    assert len(found.pairs) == 3
    assert {one.aspect for one in found.ends} == {"ended", "output", "error"}


async def test_what_is_damaged_is_compared_as_far_as_it_can_be_read(allowing: Settings) -> None:
    async with corral.open(allowing) as c:
        runs = [
            await c.run("Pay.", corral.RunOptions(agent=scripted(SCRIPT, *Ledger().tools())))
            for _ in range(2)
        ]
        torn = (
            update(effects)
            .where(effects.c.run_id == runs[1].run, effects.c.kind.in_(("tool", "model")))
            .values(request="{torn", result="[")
        )
        await c.records.database.write(lambda connection: connection.execute(torn))
        found = await compared(c, runs[0].run, runs[1].run)
    assert not found.identical
    assert len(found.pairs) == 5
    assert ("request", None, {"damaged": "{torn"}) in changed(found)


async def test_sub_agents_are_compared_inside(allowing: Settings) -> None:
    def team(answer: str) -> corral.Agent:
        helper = scripted([turn("Paying.", pay={"amount": 5}), turn(answer)], *Ledger().tools())
        helper = helper.model_copy(update={"name": "payer", "description": "Pays."})
        script = [
            {"text": "", "tool_calls": [{"name": "agents__payer", "args": {"task": "Pay 5."}}]},
            turn("Done."),
        ]
        return scripted(script, agents=(helper,))

    async with corral.open(allowing) as c:
        runs = [
            await c.run("Go.", corral.RunOptions(agent=team(answer))) for answer in ("5.", "Five.")
        ]
        found = await compared(c, runs[0].run, runs[1].run)
    kinds = [(pair.verdict, pair.a.kind, pair.a.path.count("/")) for pair in found.pairs if pair.a]
    assert kinds[0] == ("changed", "agent", 0)
    assert ("same", "tool", 1) in kinds
    assert ("changed", "model", 1) in kinds
    assert changed(found) == [
        ("result", {"text": "5.", "is_error": False}, {"text": "Five.", "is_error": False}),
        ("answer", "5.", "Five."),
    ]


RUN = RunView("r-a", "t", "agent", "m", "completed", "p", "o", "", None, 0, Totals())


def call(seq: int, step: int, name: str, result: str = "ok") -> EffectView:
    return EffectView(
        seq, "tool", name, "finished", {"args": {}}, {"text": result}, "", 1.0, 0, 0, 0.0,
        f"{step}.tools[0]#0", "r-a",
    )  # fmt: skip


def test_very_long_runs_are_compared_step_by_step() -> None:
    many = [call(number, number, f"t{number % 7}") for number in range(1, 2001)]
    other = [replace(one, run="r-b") for one in many]
    other[5] = replace(other[5], result={"text": "no"})
    found = compare(RUN, many, replace(RUN, run="r-b"), [*other, call(2001, 2001, "t")])
    assert found.common == 5
    assert [pair.verdict for pair in found.pairs].count("changed") == 1
    assert len(found.pairs) == 1996


def test_times_that_cannot_be_read_are_none() -> None:
    strange = replace(call(1, 1, "t"), started_at="yesterday", duration_ms=None)
    found = compare(RUN, [strange], replace(RUN, run="r-b", started_at="?"), [])
    assert found.figures_a.wall_ms == found.figures_b.wall_ms == 0.0
    assert [pair.verdict for pair in found.pairs] == ["only_a"]
