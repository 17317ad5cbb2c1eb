from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from corral.policies.limits import RunLimits, Spent, check_model_call


def test_the_defaults() -> None:
    assert RunLimits() == RunLimits(max_steps=12, max_tokens=None, max_repeats=3)


@pytest.mark.parametrize(
    ("limits", "spent", "words"),
    [
        (RunLimits(), Spent(), None),
        (RunLimits(max_steps=2), Spent(steps=1), None),
        (RunLimits(max_steps=2), Spent(steps=2), "step limit is 2 (max_steps)"),
        (RunLimits(max_steps=2), Spent(steps=3), "made 3 model calls"),
        (RunLimits(max_tokens=100), Spent(input_tokens=60, output_tokens=39), None),
        (
            RunLimits(max_tokens=100),
            Spent(input_tokens=60, output_tokens=40),
            "token limit is 100 (max_tokens)",
        ),
        (RunLimits(), Spent(steps=1, input_tokens=10**9), None),
    ],
)
def test_the_next_model_call(limits: RunLimits, spent: Spent, words: str | None) -> None:
    reason = check_model_call(limits, spent)
    if words is None:
        assert reason is None
    else:
        assert reason is not None
        assert words in reason


def test_what_was_spent_adds_up() -> None:
    spent = Spent().plus(steps=1, input_tokens=5).plus(steps=1, output_tokens=7, cost_usd=0.5)
    assert spent == Spent(steps=2, input_tokens=5, output_tokens=7, cost_usd=0.5)


@pytest.mark.parametrize(
    "data", [{"max_steps": 0}, {"max_tokens": -1}, {"max_repeats": 0}, {"max_step": 5}]
)
def test_a_limit_that_makes_no_sense_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RunLimits(**data)
