"""Whoever answers, and however it ends: all that tell what was used tell the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

import corral
from corral.errors import ModelError
from corral.policies.budgets import Budget, Budgets
from corral.policies.prices import FREE, Price
from corral.runtime.budgets.spending import Filter, budgets_used, spending
from corral.runtime.budgets.usage import usage
from corral.runtime.config import Settings
from corral.runtime.events import TextDelta
from corral.runtime.export.spans import spans_of
from corral.runtime.models.combined.cascade import Cascade
from corral.runtime.models.combined.confidence import ByAgreement, ByLogprob
from corral.runtime.models.combined.contest import ChainTerms
from corral.runtime.models.combined.fallback import Fallback
from corral.runtime.models.combined.routing import Route
from corral.runtime.models.combined.settings import RouteRule
from corral.runtime.models.contract import ChatModel, Usage
from tests.models.combined.fakes import Fake
from tests.runtime.agents import Ledger, scripted
from tests.runtime.test_approvals_model import PAY, Judge
from tests.runtime.test_approvals_model import answer as advice
from tests.runtime.test_response_cache import Oracle

MUCH = Budget(tokens=10**9, usd=1000.0)
LOW, HIGH = Price(input=1.0, output=2.0), Price(input=10.0, output=20.0)


def plain(model: Any, **fields: Any) -> corral.RunOptions:
    own = {"servers": (), "facts": 0, "instructions": "Answer.", **fields}
    return corral.RunOptions(agent=corral.Agent(chat_model=model, **own))


def limited(settings: Settings) -> Settings:
    budgets = Budgets(thread=MUCH, user=MUCH, day=MUCH, run=MUCH)
    return settings.model_copy(update={"budgets": budgets})


@dataclass(frozen=True)
class Figures:
    """Tokens in, tokens out and nano-dollars, as each place tells them."""

    told: dict[str, tuple[int, int, int]]

    @classmethod
    async def of(cls, c: corral.Corral, run: str) -> Figures:
        view, trace = await c.records.run(run), await c.records.trace(run)
        database = c.records.database
        (everything,) = await spending(database, None, Filter())
        told = {
            "run": [view.usage],
            "journal": trace,
            "spending": [everything],
            "usage": await usage(database, "model"),
        }
        figures = {name: _sum(found) for name, found in told.items()}
        spans = spans_of(view, trace, content=False)
        figures["spans"] = _of_spans([dict(span.attributes) for span in spans])
        for used in await budgets_used(database, c.settings.budgets, view.thread):
            figures[f"{used.account} {used.measure}"] = _of_budget(used, figures["run"])
        return cls(figures)

    @property
    def agreed(self) -> tuple[int, int, int]:
        (one,) = set(self.told.values())
        return one


def _sum(found: Any) -> tuple[int, int, int]:
    dollars = sum(round(one.cost_usd * 1e9) for one in found)
    return sum(one.input_tokens for one in found), sum(one.output_tokens for one in found), dollars


def _of_spans(spans: list[dict[str, Any]]) -> tuple[int, int, int]:
    """Of the calls: what holds others tells their sum."""
    calls = [span for span in spans if span.get("gen_ai.operation.name") == "chat"]
    names = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    tokens = [sum(span.get(name) or 0 for span in calls) for name in names]
    dollars = sum(round((span.get("corral.cost_usd") or 0) * 1e9) for span in calls)
    return tokens[0], tokens[1], dollars


def _of_budget(used: Any, whole: tuple[int, int, int]) -> tuple[int, int, int]:
    """The whole again, if the budget agrees with it."""
    is_money = used.measure == "usd"
    expected = whole[2] if is_money else whole[0] + whole[1]
    found = round(used.used * 1e9) if is_money else used.used
    return whole if found == expected else (-1, -1, -1)


DOWN = ModelError("no electricity")
CASES: dict[str, tuple[Callable[[], ChatModel], tuple[int, int, int]]] = {
    "plain": (lambda: Fake("a", ["Hi."], price=HIGH), (100, 10, 1_200_000)),
    "a chain that falls": (
        lambda: Fallback(
            "a | b", [Fake("a", [Usage(50, 3), DOWN], price=HIGH), Fake("b", ["Hi."], price=LOW)]
        ),
        (150, 13, 560_000 + 120_000),
    ),
    "a chain that falls to a free one": (
        lambda: Fallback("a | b", [Fake("a", [DOWN], price=HIGH), Fake("b", ["Hi."], price=FREE)]),
        (100, 10, 0),
    ),
    "a route to a free one": (
        lambda: _route(Fake("a", ["Hi."], price=HIGH), Fake("b", ["Hi."], price=FREE)),
        (100, 10, 0),
    ),
    "a route to a chain": (
        lambda: _route(
            Fake("a", ["Hi."], price=HIGH),
            Fallback("c", [Fake("d", [DOWN], price=HIGH), Fake("e", ["Hi."], price=FREE)]),
        ),
        (100, 10, 0),
    ),
    "a cascade": (
        lambda: Cascade(
            "c",
            [Fake("a", ["Hi."], price=LOW, logprobs=[-5.0]), Fake("b", ["Ho."], price=HIGH)],
            ByLogprob(),
            threshold=0.5,
        ),
        (200, 20, 120_000 + 1_200_000),
    ),
    "a cascade of samples": (
        lambda: Cascade(
            "c",
            [Fake("a", answers=["1", "2", "3"], price=LOW), Fake("b", ["Ho."], price=HIGH)],
            ByAgreement(3),
            threshold=0.9,
        ),
        (400, 40, 3 * 120_000 + 1_200_000),
    ),
    "a hedge": (
        lambda: Fallback(
            "h",
            [Fake("a", [asyncio.Event()], price=HIGH), Fake("b", ["Hi."], price=LOW)],
            ChainTerms(hedge=0.01),
        ),
        (200, 10, 1_000_000 + 120_000),
    ),
}


def _route(one: ChatModel, default: ChatModel) -> Route:
    return Route("r", [RouteRule(model="one", tools=True)], "d", {"one": one, "d": default})


@pytest.mark.parametrize("case", CASES)
async def test_all_agree(settings: Settings, case: str) -> None:
    make, expected = CASES[case]
    async with corral.open(limited(settings)) as c:
        done = await c.run("Who?", plain(make()))
        figures = await Figures.of(c, done.run)
        replayed = await c.replay(done.run, plain(make()))
    assert figures.agreed == expected
    assert replayed.status == "identical"


async def test_a_budget_holds_for_all_that_one_request_leads_to(settings: Settings) -> None:
    cheap = Fake("a", answers=["1", "2", "3"], price=LOW)
    model = Cascade("c", [cheap, Fake("b", ["Ho."], price=HIGH)], ByAgreement(3), threshold=0.9)
    async with corral.open(settings) as c:
        tight = replace(plain(model), budget=Budget(tokens=1000, at_limit="answer"))
        assert (await c.run("Who?", tight)).status == "completed"
        granted = {one.sampling.max_tokens for one in cheap.asked}
        short = replace(plain(model), budget=Budget(tokens=200, at_limit="answer"))
        assert (await c.run("Who?", short)).status == "stopped"
    assert len(cheap.asked) == 3
    (tokens,) = granted
    assert 0 < (tokens or 1000) * 4 <= 1000


@pytest.mark.parametrize(("price", "each"), [(HIGH, 10_000), (FREE, 0)])
async def test_a_chain_that_is_left_is_paid_as_far_as_it_went(
    settings: Settings, price: Price, each: int
) -> None:
    silent = Fake("b", ["Hi", Usage(50, 7), " there", asyncio.Event()], price=price)
    chain = Fallback("a | b", [Fake("a", [DOWN], price=HIGH), silent])
    async with corral.open(limited(settings)) as c:
        events = c.stream("Talk.", plain(chain))
        async for event in events:
            if isinstance(event, TextDelta) and event.text == " there":
                break
        await events.aclose()
        view = await c.records.run("last")
        figures = await Figures.of(c, view.run)
        (used,) = await usage(c.records.database, "model")
    assert figures.agreed == (50, 9, each * 50 + 2 * each * 7)
    assert (used.key, used.cut_off) == ("b", 1)


async def test_a_kept_answer_costs_nothing_wherever_it_is_told(settings: Settings) -> None:
    oracle = Oracle()
    async with corral.open(limited(settings)) as c:
        await c.run("Who?", plain(oracle))
        again = await c.run("Who?", plain(oracle))
        forked = await c.fork(again.run, corral.Fork(at=2), plain(oracle))
        replays = [await c.replay(one.run, plain(oracle)) for one in (again, forked)]
        (used,) = await usage(c.records.database, "model")
        (everything,) = await spending(c.records.database, None, Filter())
    assert [one.status for one in replays] == ["identical", "identical"]
    assert (again.usage.cost_usd, forked.usage.cost_usd) == (0, 0)
    assert (used.input_tokens, used.cost_usd) == (everything.input_tokens, everything.cost_usd)
    assert (used.calls, used.cache_hits, len(oracle.asked)) == (3, 2, 1)


async def test_sub_agents_of_a_chain_are_counted_once(settings: Settings) -> None:
    def chain(name: str, *words: str) -> Fallback:
        down = Fake("down", [DOWN], price=HIGH)
        return Fallback(name, [down, Fake(f"{name} says", words, price=LOW)])

    asks = corral.ScriptedModel(
        [
            {"tool_calls": [{"name": "agents__helper", "args": {"task": "Who?"}}]},
            {"text": "Ann.", "usage": {"input_tokens": 7, "output_tokens": 3}},
        ],
        price=HIGH,
    )
    helper = corral.Agent(
        name="helper", description="Helps.", chat_model=chain("inner", "Ann."), servers=(), facts=0
    )
    async with corral.open(limited(settings)) as c:
        done = await c.run("Who?", plain(asks, agents=(helper,)))
        figures = await Figures.of(c, done.run)
        by_model = {one.key: one for one in await usage(c.records.database, "model")}
    assert done.output == "Ann."
    assert by_model["inner says"].cost_usd == pytest.approx(120e-6)
    assert figures.agreed[0] == 100 + sum(
        one.input_tokens for key, one in by_model.items() if key != "inner says"
    )


async def test_what_an_approver_was_asked_is_used_as_it_is_spent(settings: Settings) -> None:
    judge = Judge(advice("approve"), price=LOW)
    agent = scripted(PAY, *Ledger().tools())
    given = corral.RunOptions(agent=agent, approver=corral.ModelApprover(judge))
    async with corral.open(limited(settings)) as c:
        await c.run("Pay.", given)
        used = {one.key: one for one in await usage(c.records.database, "model")}
        spent = {one.key: one for one in await spending(c.records.database, "model", Filter())}
    assert used["judge"].cost_usd == spent["judge"].cost_usd > 0
    assert used["judge"].calls == 1
    assert used.keys() == spent.keys()


# --- what is kept for others


async def test_a_kept_answer_is_of_the_same_route(settings: Settings) -> None:
    cheap, good = Oracle("cheap"), Oracle("good")
    rules = [RouteRule(model="good", tags=("important",))]
    route = Route("r", rules, "cheap", {"good": good, "cheap": cheap})
    async with corral.open(settings) as c:
        await c.run("What is it?", plain(route))
        await c.run("What is it?", replace(plain(route), tags=("important",)))
    assert (len(cheap.asked), len(good.asked)) == (1, 1)


def test_a_route_with_another_default_is_another_model() -> None:
    one, other = Oracle("a", identity={"is": "a"}), Oracle("b", identity={"is": "b"})
    rules = [RouteRule(model="a", words=("x",)), RouteRule(model="b", words=("y",))]
    routes = [Route("r", rules, default, {"a": one, "b": other}) for default in ("a", "b")]
    assert routes[0].identity != routes[1].identity


async def test_what_a_check_has_made_of_an_answer_is_its_agents_own(settings: Settings) -> None:
    oracle = Oracle()
    mended = corral.Check(
        name="words", on="output", pattern="Answer", replace="Reply", on_fail="fix"
    )
    async with corral.open(settings) as c:
        first = await c.run("What is it?", plain(oracle, checks=(mended,)))
        other = await c.run("What is it?", plain(oracle))
    assert (first.output, other.output) == ("Reply 1.", "Answer 2.")


async def test_a_kept_answer_has_its_probabilities(settings: Settings) -> None:
    model = Fake("likely", ["Hi."], logprobs=[-0.5])
    model.identity = {"is": "likely"}  # type: ignore[attr-defined]  # what makes it one to keep
    asked = plain(model, sampling={"temperature": 0, "logprobs": 0})
    async with corral.open(settings) as c:
        runs = [await c.run("Who?", asked) for _ in range(2)]
        results: list[Any] = [(await c.records.trace(one.run))[-1].result for one in runs]
    assert len(model.asked) == 1
    assert results[1]["logprobs"] == results[0]["logprobs"] != []
