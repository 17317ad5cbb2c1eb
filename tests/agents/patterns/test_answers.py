"""Answers taken out of texts, compared and counted."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.agents.patterns.answers import (
    AnswerOptions,
    comparable,
    extracted,
    majority,
    to_decide,
)

votes = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=12)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("42", " 42. "),
        ("1,200.50", "$1200.5"),
        ("**Paris**", "paris"),
        ("ﬁve", "FIVE"),
        ("-3.0", "-3"),
    ],
)
def test_forms_that_make_no_difference(one: str, other: str) -> None:
    assert comparable(one) == comparable(other) is not None


@pytest.mark.parametrize(("one", "other"), [("42", "-42"), ("1.5", "15"), ("not a", "a")])
def test_forms_that_make_one(one: str, other: str) -> None:
    assert comparable(one) != comparable(other)


@pytest.mark.parametrize("empty", ["", "  \n", "***", "?!"])
def test_nothing_is_no_answer(empty: str) -> None:
    assert comparable(empty) is None


@pytest.mark.parametrize(
    ("options", "text", "answer"),
    [
        ({"extract": "last_number"}, "3 and 4 make 7.", "7"),
        ({"extract": "last_number"}, "seven", ""),
        ({"extract": "last_line"}, "first\n\nlast\n", "last"),
        ({"extract": "marker"}, "answer: 1\nThen ANSWER: 2\nmore", "2"),
        ({"extract": "marker"}, "no mark", ""),
        ({"extract": "marker", "marker": "=>"}, "a => b", "b"),
        ({"extract": "whole"}, "all of it", "all of it"),
    ],
)
def test_answers_in_texts(options: dict[str, str], text: str, answer: str) -> None:
    assert extracted(text, AnswerOptions.model_validate(options)) == answer


def test_of_equally_many_votes_the_first_seen_wins() -> None:
    assert majority([None, "b", "a", "a", "b"]) == 1
    assert majority(["a", "b", "b"]) == 1
    assert majority([None, None]) is None


@given(votes)
def test_a_majority_that_is_decided_does_not_change(all_votes: list[str | None]) -> None:
    """With votes counted in waves, the winner is the one of all votes."""
    seen: list[str | None] = []
    while wave := to_decide(seen, len(all_votes) - len(seen)):
        assert wave <= len(all_votes) - len(seen)
        seen = all_votes[: len(seen) + wave]
    winner, of_all = majority(seen), majority(all_votes)
    assert (seen[winner] if winner is not None else None) == (
        all_votes[of_all] if of_all is not None else None
    )


@given(st.text(max_size=200))
def test_comparing_what_is_compared_changes_nothing(text: str) -> None:
    once = comparable(text)
    assert once is None or comparable(once) == once


def test_no_wave_is_larger_than_could_decide() -> None:
    sizes = [to_decide([], left) for left in range(8)]
    assert sizes == [0, 1, 2, 2, 3, 3, 4, 4]
    assert all(b - a in (0, 1) for a, b in pairwise(sizes))
