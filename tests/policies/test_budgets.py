from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from corral.policies.budgets import (
    Account,
    AgentBudget,
    Amounts,
    Budget,
    Budgets,
    in_words,
    shown,
)
from corral.policies.ledger import (
    LEAST_OUTPUT,
    Balance,
    Breach,
    Need,
    granted,
    warnings,
)
from corral.policies.prices import NANO, Price, Tier, Tokens

DOLLAR = Price(input=1.0, output=2.0)
"""A dollar for a million tokens of input, two for as many of output."""


def balance(budget: Budget, spent: Amounts | None = None, **reserved: Any) -> Balance:
    account = Account("run", "r-1", budget, "the run's budget")
    return Balance(account, spent or Amounts(), Amounts(**reserved))


def need(input_tokens: int, wanted: int, price: Price = DOLLAR) -> Need:
    return Need(Amounts(input_tokens=input_tokens, model_calls=1), wanted, price)


def test_without_limits_all_that_is_wanted_is_granted() -> None:
    assert granted([balance(Budget())], need(10**9, 500)) == 500


@pytest.mark.parametrize(
    ("budget", "output"),
    [
        (Budget(tokens=1000), 900),
        (Budget(output_tokens=300), 300),
        (Budget(input_tokens=100), 5000),
        (Budget(usd=0.0011), 500),
        (Budget(usd=0.0011, tokens=400), 300),
    ],
)
def test_the_answer_may_be_as_long_as_what_is_left(budget: Budget, output: int) -> None:
    assert granted([balance(budget)], need(100, 5000)) == output


@pytest.mark.parametrize(
    ("budget", "spent", "measure"),
    [
        (Budget(tokens=100 + LEAST_OUTPUT - 1), Amounts(), "tokens"),
        (Budget(input_tokens=99), Amounts(), "input_tokens"),
        (Budget(usd=0.00009), Amounts(), "usd"),
        (Budget(model_calls=3), Amounts(model_calls=3), "model_calls"),
        (Budget(wall_seconds=5), Amounts(wall_seconds=5.0), "wall_seconds"),
        (Budget(active_seconds=0), Amounts(), "active_seconds"),
    ],
)
def test_what_does_not_fit_at_all_is_the_limit(
    budget: Budget, spent: Amounts, measure: str
) -> None:
    found = granted([balance(budget, spent)], need(100, 5000))
    assert isinstance(found, Breach)
    assert (found.measure, found.waits) == (measure, False)


def test_what_others_hold_is_waited_for() -> None:
    found = granted([balance(Budget(tokens=1000), output_tokens=950)], need(100, 500))
    assert isinstance(found, Breach)
    assert found.waits


def test_nobody_waits_for_what_would_not_fit_either() -> None:
    spent = Amounts(output_tokens=900)
    found = granted([balance(Budget(tokens=1000), spent, output_tokens=50)], need(100, 500))
    assert isinstance(found, Breach)
    assert not found.waits


def test_the_smallest_of_several_budgets_counts() -> None:
    accounts = [balance(Budget(tokens=1000)), balance(Budget(tokens=10_000)), balance(Budget())]
    assert granted(accounts, need(100, 5000)) == 900


def test_a_free_model_needs_no_money() -> None:
    free = need(100, 500, Price(input=0, output=0))
    assert granted([balance(Budget(usd=0.0), Amounts(nano_usd=NANO))], free) == 500


def test_tools_are_counted_by_pattern() -> None:
    budget = Budget(tools={"web__*": 2, "files__write_file": 1})
    spent = Amounts(tool_calls=2, tools={"web__get": 1, "web__post": 1})
    again = Need(Amounts(tool_calls=1, tools={"web__get": 1}))
    write = Need(Amounts(tool_calls=1, tools={"files__write_file": 1}))
    found = granted([balance(budget, spent)], again)
    assert isinstance(found, Breach)
    assert (found.measure, found.used, found.limit) == ("tools.web__*", 2, 2)
    assert granted([balance(budget, spent)], write) == 0


def test_a_long_prompt_is_reserved_at_the_rates_of_its_tier() -> None:
    price = Price(input=1, output=2, tiers=(Tier(above=1000, input=10, output=20),))
    assert price.at_most(1000, 0) == 1000 * 1000
    assert price.at_most(1001, 0) == 1001 * 10_000
    assert price.output_for(1001 * 10_000 + 40_000, 1001) == 2


def test_cached_input_is_reserved_as_if_it_were_not() -> None:
    price = Price(input=1, output=2, cached=0.1, written=1.25)
    cost = price.cost(Tokens(input=1000, cached=900))
    assert cost == pytest.approx((100 + 90) / 1e6)
    assert price.at_most(1000, 0) == 1_250_000


@pytest.mark.parametrize(
    ("used", "told"), [(79, []), (80, ["tokens"]), (100, ["tokens"]), (130, ["tokens"])]
)
def test_a_limit_that_is_near_is_told(used: int, told: list[str]) -> None:
    found = warnings(balance(Budget(tokens=100, usd=5.0), Amounts(input_tokens=used)))
    assert list(found) == told


def test_two_budgets_at_once_are_the_lower_of_each_limit() -> None:
    mine = Budget(tokens=100, tools={"a": 1, "b": 5}, warn_at=0.5)
    theirs = Budget(tokens=200, usd=1.0, tools={"b": 2}, at_limit="answer")
    both = mine.tightened(theirs)
    assert both == theirs.tightened(mine)
    assert both == Budget(
        tokens=100, usd=1.0, tools={"a": 1, "b": 2}, at_limit="answer", warn_at=0.5
    )


def test_a_raised_limit_replaces_its_own_and_no_other() -> None:
    budget = Budget(tokens=100, usd=1.0, tools={"a": 1})
    account = Account("run", "r-1", budget, "the run's budget")
    raised = account.raised({"usd": 2 * NANO, "tools.a": 4})
    assert raised.budget == Budget(tokens=100, usd=2.0, tools={"a": 4})
    assert raised.key == account.key


@pytest.mark.parametrize(
    "data",
    [
        {"tokens": -1},
        {"usd": -0.5},
        {"usd": float("nan")},
        {"usd": float("inf")},
        {"wall_seconds": float("inf")},
        {"dollars": 5},
        {"tools": {"a": -1}},
        {"at_limit": "explode"},
        {"warn_at": 0},
        {"warn_at": 1.5},
        {"tokens": 0.5},
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Budget(**data)


def test_an_unknown_account_is_refused() -> None:
    with pytest.raises(ValidationError):
        Budgets.model_validate({"week": {"tokens": 5}})


@pytest.mark.parametrize(
    ("measure", "amount", "words"),
    [
        ("usd", NANO // 2, "$0.50 US dollars"),
        ("usd", 123_400_000, "$0.1234 US dollars"),
        ("tokens", 20_000, "20,000 tokens"),
        ("wall_seconds", 1.25, "1.2 s wall seconds"),
        ("tools.web__*", 3, "3 calls of web__*"),
    ],
)
def test_amounts_in_words(measure: str, amount: float, words: str) -> None:
    assert f"{shown(measure, amount)} {in_words(measure)}" == words


def test_an_agent_that_is_not_in_the_team_has_no_budget_of_its_own() -> None:
    tree = AgentBudget("lead", Budget(), (AgentBudget("helper", Budget(tokens=5)),))
    assert tree.member("helper").budget == Budget(tokens=5)
    assert tree.member("stranger") == AgentBudget("stranger")
