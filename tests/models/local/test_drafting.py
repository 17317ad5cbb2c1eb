"""Guesses: where they come from, what they may cost, and that they change no answer."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from corral.runtime.models.local.drafting.ngram import NgramSource
from corral.runtime.models.local.drafting.pacing import START, PacedDrafter


class Says:
    """A source that always says the same, and counts how much."""

    def __init__(self, *tokens: int) -> None:
        self.tokens = tokens
        self.said = 0
        self.asked = 0
        self.closed = False

    def guess(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        del tokens
        self.asked += 1
        self.said += min(most, len(self.tokens))
        return self.tokens[:most]

    def close(self) -> None:
        self.closed = True


def test_what_followed_the_newest_tokens_is_guessed() -> None:
    source = NgramSource()
    assert list(source.guess([1, 2, 3, 4, 5, 1, 2], 2)) == [3, 4]
    assert list(source.guess([7, 8, 9], 2)) == []


def test_the_longer_and_then_the_newer_evidence_counts() -> None:
    source = NgramSource()
    text = [1, 2, 3, 4, 50, 9, 3, 4, 60, 1, 2, 3, 4]
    assert list(source.guess(text, 1)) == [50]
    assert list(NgramSource().guess([*text[:9], 8, 3, 4], 1)) == [60]


def test_an_answer_that_is_begun_again_is_indexed_anew() -> None:
    source = NgramSource()
    source.guess([1, 2, 3, 4, 5, 6, 7], 4)
    assert list(source.guess([1, 2, 8, 1, 2], 4)) == [8, 1, 2]
    assert list(source.guess([1, 2, 8, 5, 6], 4)) == []


_tokens = st.lists(st.integers(0, 2), min_size=1, max_size=40)


@given(text=_tokens, most=st.integers(1, 8))
def test_a_guess_stands_after_the_same_tokens(text: list[int], most: int) -> None:
    guess = list(NgramSource().guess(text, most))
    assert len(guess) <= most
    if guess:
        places = [i for i in range(2, len(text)) if text[i - 2 : i] == text[-2:]]
        assert any(text[i : i + len(guess)] == guess for i in places)


@given(texts=st.lists(_tokens, max_size=6))
def test_an_index_that_grows_guesses_as_one_that_is_new(texts: list[list[int]]) -> None:
    grown = NgramSource()
    text: list[int] = []
    for more in texts:
        text += more
        assert list(grown.guess(text, 8)) == list(NgramSource().guess(text, 8))


@given(said=st.lists(st.integers(0, 1), min_size=1, max_size=300))
def test_wrong_guesses_are_bounded(said: list[int]) -> None:
    source = Says(1, 1, 1, 1)
    drafter = PacedDrafter(source)
    tokens, right = [5], 0
    while said:
        guess = list(drafter.propose(tokens, 8))
        came = said[: len(guess) + 1]
        agree = 0
        while agree < min(len(guess), len(came)) and guess[agree] == came[agree]:
            agree += 1
        came = came[: agree + 1]
        right += agree
        tokens += came
        del said[: len(came)]
    wrong = source.said - right
    assert wrong <= START + right + len(tokens) / 25 + 4


def test_a_source_that_is_never_right_is_hardly_asked() -> None:
    source = Says(*range(100, 116))
    drafter = PacedDrafter(source)
    for length in range(1, 1001):
        drafter.propose([0] * length, 16)
    assert source.said <= START + 1000 / 25


def test_a_costly_source_without_guesses_is_given_up() -> None:
    source = Says()
    drafter = PacedDrafter(source, price=0.5)
    for length in range(1, 1001):
        drafter.propose([0] * length, 16)
    assert source.asked <= 2 * START
    assert source.closed


def test_a_source_that_is_always_right_is_asked_for_more() -> None:
    source = Says(*[1] * 16)
    drafter = PacedDrafter(source)
    tokens, lengths = [1], []
    for _ in range(4):
        lengths.append(len(drafter.propose(tokens, 16)))
        tokens += [1] * (lengths[-1] + 1)
    assert lengths == [8, 16, 16, 16]
