from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from corral.policies.limits import RunLimits, Spent, check_step


def test_the_defaults() -> None:
    assert RunLimits() == RunLimits(max_steps=12, max_tokens=None, max_repeats=3)


@pytest.mark.parametrize(("most", "steps", "may"), [(12, 0, True), (2, 1, True), (2, 2, False)])
def test_the_next_step_of_an_agent(most: int, steps: int, may: bool) -> None:
    reason = check_step(RunLimits(max_steps=most), steps, "reader")
    assert reason is None if may else "reader has made 2 model calls" in str(reason)


def test_the_reason_names_the_limit() -> None:
    reason = check_step(RunLimits(max_steps=2), 3, "reader")
    assert reason is not None
    assert reason.endswith("its step limit is 2 (max_steps).")


def test_what_was_spent_adds_up() -> None:
    spent = Spent(1, input_tokens=5).plus(Spent(1, output_tokens=7, cost_usd=0.5))
    assert spent == Spent(steps=2, input_tokens=5, output_tokens=7, cost_usd=0.5)


@pytest.mark.parametrize(
    "data", [{"max_steps": 0}, {"max_tokens": -1}, {"max_repeats": 0}, {"max_step": 5}]
)
def test_a_limit_that_makes_no_sense_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RunLimits(**data)
