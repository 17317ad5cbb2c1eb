"""Prices come from the kept table, offline; what nobody knows the price of is told apart."""

from __future__ import annotations

import subprocess
import sys

import pytest

import corral
from corral.policies.budgets import Budget
from corral.policies.prices import FREE, NANO, Price, Tokens
from corral.runtime.budgets.prices import billed, listed_price
from corral.runtime.config import Settings
from corral.runtime.effects import Spend
from corral.runtime.models.contract import ChatModel
from tests.runtime.agents import Turn, turn


@pytest.mark.parametrize(
    ("provider", "model", "dollars"),
    [
        ("openai", "gpt-4o-mini", 0.15),
        ("openai", "gpt-4o-mini-2024-07-18", 0.15),
        ("anthropic", "claude-haiku-4-5-20251001", 1.0),
    ],
)
def test_a_listed_model_and_its_snapshots(provider: str, model: str, dollars: float) -> None:
    price = listed_price(model, provider=provider)
    assert price is not None
    assert price.cost(Tokens(input=1_000_000)) == pytest.approx(dollars)


def test_cached_input_is_told_apart() -> None:
    price = listed_price("claude-haiku-4-5", provider="anthropic")
    assert price is not None
    tokens = Tokens(input=3_000_000, output=1_000_000, cached=1_000_000, written=1_000_000)
    assert price.cost(tokens) == pytest.approx(1 + 0.1 + 1.25 + 5)


def test_a_long_prompt_costs_what_its_tier_says() -> None:
    price = listed_price("claude-sonnet-4-5", provider="anthropic")
    assert price is not None
    assert price.cost(Tokens(input=200_000)) == pytest.approx(0.2 * 3)
    assert price.cost(Tokens(input=200_001)) == pytest.approx(0.200001 * 6)
    assert price.at_most(200_001, 0) >= 0.200001 * 6 * NANO


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/v1", "http://[::1]:1/v1", "http://localhost"]
)
def test_a_server_on_this_machine_costs_nothing(url: str) -> None:
    assert listed_price("anything", url=url) == FREE


def test_a_known_service_is_known_by_its_address() -> None:
    price = listed_price("llama-3.3-70b-versatile", url="https://api.groq.com/openai/v1")
    assert price is not None
    assert price.output > 0


@pytest.mark.parametrize(
    ("model", "place"),
    [
        ("unheard-of", {"provider": "openai"}),
        ("gpt-4o", {"url": "https://models.example.com/v1"}),
        ("gpt-4o", {"url": "https://127.0.0.1.example.com/v1"}),
    ],
)
def test_an_unknown_price_is_not_zero(model: str, place: dict[str, str]) -> None:
    assert listed_price(model, **place) is None


def test_the_table_is_loaded_when_it_is_first_needed() -> None:
    code = "import sys, corral.runtime.budgets.prices; print('genai_prices' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


USED: Turn = {**turn("Hello."), "usage": {"input_tokens": 1000, "output_tokens": 500}}


class Plain:
    """A model of somebody's own, which does not say what it costs."""

    name = "mine"
    context_window = 8000

    def __init__(self) -> None:
        inner = corral.ScriptedModel([USED])
        self.stream = inner.stream
        self.check_complete = inner.check_complete
        self.aclose = inner.aclose


@pytest.mark.parametrize("model", [Plain(), corral.ScriptedModel([USED], name="mine")])
async def test_a_price_of_the_settings_counts_for_a_model_that_has_none(
    settings: Settings, model: ChatModel
) -> None:
    prices = {"mine": Price(input=100.0, output=200.0)}
    own = settings.model_copy(update={"prices": prices})
    agent = corral.Agent(servers=(), chat_model=model)
    async with corral.open(own) as c:
        done = await c.run("Hi.", corral.RunOptions(agent=agent, budget=Budget(usd=5)))
        assert done.status == "completed"
        assert done.usage.cost_usd == pytest.approx(0.2)
        # It is a budget's limit too: a second one like it does not fit.
        options = corral.RunOptions(agent=agent, budget=Budget(usd=0.001, at_limit="answer"))
        assert (await c.run("Hi.", options)).status == "stopped"


async def test_the_local_model_costs_what_the_settings_say(settings: Settings) -> None:
    price = Price(input=1000.0, output=1000.0)
    own = settings.model_copy(update={"prices": {"local": price}, "model": "local"})
    options = corral.RunOptions(agent=corral.Agent(servers=(), facts=0), budget=Budget(usd=9))
    async with corral.open(own) as c:
        done = await c.run("Say hi.", options)
        assert done.status == "completed", done.error
        used = done.usage
        assert used.cost_usd == pytest.approx((used.input_tokens + used.output_tokens) / 1000)


def test_what_a_model_bills_itself_is_not_billed_again() -> None:
    price = Price(input=1.0, output=1.0)
    assert billed(Spend(10, 10, 0.5), price) == Spend(10, 10, 0.5)
    assert billed(Spend(), price) == Spend()
