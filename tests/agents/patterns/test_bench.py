"""The benchmark of patterns: its tasks, its theory, and that the runtime does what theory says."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest

import corral
from bench._intervals import newcombe, wilson
from bench._patterns_model import PROPOSALS, Noisy, Rates
from bench._patterns_search import beam, depth_first, monte_carlo
from bench._patterns_table import Bought, Row, Side, gains, missed, table
from bench._patterns_tasks import Game, can_make_24, games, left_after, problems
from bench._patterns_theory import any_of, chain, first_accepted, majority, reflected
from bench.patterns import KINDS, RATES, SAMPLES, Trial, sides_of_games, sides_of_problems
from corral.runtime.config import Settings

pytestmark = pytest.mark.slow


def numbers(*given: int) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, given))


def test_which_games_can_be_won() -> None:
    assert can_make_24(numbers(4, 6, 8, 8))
    assert can_make_24(numbers(3, 3, 8, 8))  # 8 / (3 - 8 / 3)
    assert not can_make_24(numbers(1, 1, 1, 1))
    assert len(games(5, 1)) == len(problems(5, 1)) == 5
    assert games(5, 1) == games(5, 1) != games(5, 2)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("8 / 3 = 8/3; 3 - 8/3 = 1/3; 8 / 1/3 = 24", True),
        ("8 * 3 = 24", False),
        ("3 + 3 = 7; 8 + 8 = 16; 7 + 16 = 24", False),
        ("4 * 6 = 24; 3 - 3 = 0; 24 + 0 = 24", False),
        ("24", False),
    ],
)
def test_answers_of_games(answer: str, right: bool) -> None:
    assert Game(numbers(3, 3, 8, 8)).is_right(answer) is right


def test_steps_that_cannot_be_made_leave_nothing() -> None:
    assert left_after(numbers(1, 2), ["1 + 2 = 3"]) == numbers(3)
    assert left_after(numbers(1, 2), ["1 + 3 = 4"]) is None


def test_theory_at_its_ends() -> None:
    """What follows without a formula: models that never err, or know nothing."""
    sure = Rates(answer=1, judge=1, mend=1, keep=1, step=1)
    assert majority(1, 5) == first_accepted(1, 1, 3) == reflected(sure, 3) == 1
    assert (
        chain(sure) == beam(sure, 1) == depth_first(sure, 20) == monte_carlo(sure, 20, 0, 10) == 1
    )
    assert majority(0.5, 7) == pytest.approx(0.5)
    assert majority(0.65, 2) == pytest.approx(0.65)  # two who differ: the first one counts
    assert first_accepted(0.6, 0.5, 4) == pytest.approx(0.6)
    assert first_accepted(0.6, 1, 4) == pytest.approx(any_of(0.6, 4))
    # A judge who is always wrong lets only wrong drafts through.
    assert reflected(Rates(answer=1, judge=0, keep=1), 3) == pytest.approx(1)
    assert reflected(Rates(answer=0, judge=0), 3) == 0


def test_the_majority_is_that_of_all_cases() -> None:
    right = 0.65
    cases = product((True, False), repeat=5)
    counted = sum(right ** sum(c) * (1 - right) ** (5 - sum(c)) for c in cases if sum(c) > 2)
    assert majority(right, 5) == pytest.approx(counted)


def test_a_beam_of_one_is_a_chain_of_first_choices() -> None:
    """Twice the first thought that the judge accepts must be right, then one of the last ones."""
    both = RATES.step * RATES.judge
    accepted = both + (1 - RATES.step) * (1 - RATES.judge)
    level = any_of(accepted, PROPOSALS) * both / accepted
    assert beam(RATES, 1) == pytest.approx(level**2 * any_of(RATES.step, PROPOSALS))
    assert beam(RATES, 1) < beam(RATES, 2) < beam(RATES, 3)


def test_searches_without_limits_find_what_is_there() -> None:
    """With a judge who does not err, the chance that a tree has a right path (Galton, Watson)."""
    rates, there = Rates(step=0.2, judge=1), 1.0
    for _ in range(3):
        there = any_of(rates.step * there, PROPOSALS)
    assert beam(rates, PROPOSALS**2) == pytest.approx(there)
    assert depth_first(rates, 1000) == pytest.approx(there)
    assert monte_carlo(rates, 1000, 1.0, 400) == pytest.approx(there, abs=0.08)


def test_few_calls_end_a_search_before_its_last_step() -> None:
    """A step and its five values are six calls, and the last step is one."""
    assert depth_first(RATES, 12) == monte_carlo(RATES, 12, 0.1, 200) == 0
    sure = Rates(judge=1)
    first_chosen = any_of(sure.step, PROPOSALS)
    assert depth_first(sure, 13) == pytest.approx(first_chosen**3)
    assert depth_first(RATES, 13) < depth_first(RATES, 39)


def test_intervals() -> None:
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-3)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-3)
    assert newcombe((10, 10), (0, 10)) == pytest.approx((0.6075, 1), abs=1e-3)
    assert newcombe((56, 70), (48, 80)) == pytest.approx((0.0524, 0.3339), abs=1e-3)


def test_no_task_of_another_seed_was_tuned_on() -> None:
    for kind in KINDS:
        tuned = kind.held_out(100, 1)
        assert not set(tuned) & set(kind.held_out(40, 2))
        assert tuned == kind.tasks(100, 1)


def test_a_table_marks_what_theory_does_not_say() -> None:
    react = Row(Side("react", "react", {}, 0.65), 63, 100, 28)
    luck = Row(Side("luck", "react", {}, 0.5), 90, 100, 56)
    rows = [Bought(react, react, 0.65), Bought(luck, react, 0.88)]
    lines = list(table(rows))
    assert "[0.532, 0.718]  0.650 " in lines[1]
    assert "0.500!" in lines[2]
    assert "+0.270" in list(gains(rows))[1]
    assert missed(rows) == (["luck"], 2)


def test_the_model_is_right_as_often_as_it_says() -> None:
    tasks = problems(400, 3)
    model = Noisy({task.text: task for task in tasks}, RATES, "a seed")
    right = [[task.is_right(one) for one in model.tries(task, SAMPLES)] for task in tasks]
    low, high = wilson(sum(map(sum, right)), len(tasks) * SAMPLES)
    assert low <= RATES.answer <= high
    low, high = wilson(sum(map(any, right)), len(tasks))
    assert low <= any_of(RATES.answer, SAMPLES) <= high


@pytest.mark.parametrize("side", sides_of_problems()[1:], ids=lambda side: side.name)
async def test_patterns_are_right_as_often_as_theory_says(settings: Settings, side: Side) -> None:
    tasks = problems(12, 5)
    async with corral.open(settings) as c:
        row = await Trial(tasks, 5).measure(c, side)
    assert row.is_as_predicted, (row.hits, row.of, row.side.theory)


async def test_a_tree_is_right_as_often_as_theory_says(settings: Settings) -> None:
    _, greedy, *_ = sides_of_games()
    async with corral.open(settings) as c:
        row = await Trial(games(10, 5), 5).measure(c, greedy)
    assert row.is_as_predicted, (row.hits, row.of, row.side.theory)
    assert row.hits / row.of > chain(RATES)
