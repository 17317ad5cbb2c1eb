"""Prices come from the kept table, offline; what nobody knows the price of is told apart."""

from __future__ import annotations

import subprocess
import sys

import pytest

from corral.policies.prices import FREE, NANO, Tokens
from corral.runtime.budgets.prices import listed_price


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
