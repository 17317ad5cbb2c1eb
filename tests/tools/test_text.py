"""Cleaning and capping text from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.tools.text import cap, clean, one_line


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x07", "link"),
        ("\x9b31mred", "red"),
        ("\x1b(Bplain\x1bc", "plain"),
        ("a\rb\r\nc\td", "a\nb\nc\td"),
        ("nul\x00bell\x07del\x7f", "nulbelldel"),
        ("right\u202eto left", "rightto left"),
        ("tag\U000e0041ged", "tagged"),
        ("half a pair \ud800", "half a pair "),
        ("naïve 日本 👩‍👩‍👧", "naïve 日本 👩‍👩‍👧"),
    ],
)
def test_clean(dirty: str, expected: str) -> None:
    assert clean(dirty) == expected


@given(st.text(st.characters(), max_size=200))
def test_clean_is_final_and_can_be_stored(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert once.encode("utf-8").decode("utf-8") == once
    assert "\x1b" not in once


@given(st.text(max_size=300), st.integers(min_value=0, max_value=300))
def test_cap_keeps_to_the_limit_and_counts(text: str, limit: int) -> None:
    short, dropped = cap(text, limit)
    assert len(short) <= limit
    assert (dropped == 0) == (short == text)
    assert dropped <= len(text)


def test_cap_keeps_head_and_tail_and_says_how_much_is_gone() -> None:
    short, dropped = cap("a" * 5000 + "b" * 5000, 1000)
    assert len(short) <= 1000
    assert short.startswith("aaa")
    assert short.endswith("bbb")
    assert f"… {dropped:,} characters left out …" in short
    kept = 10_000 - dropped
    assert short.replace(f"\n… {dropped:,} characters left out …\n", "") == (
        "a" * (kept * 2 // 3) + "b" * (kept - kept * 2 // 3)
    )


def test_one_line() -> None:
    assert one_line("a\n b\x1b[0m\t c") == "a b c"
    assert one_line("x" * 300, 10) == "x" * 9 + "…"


def test_cap_counts_what_an_earlier_cap_left_out() -> None:
    once, dropped = cap("a" * 10_000, 5_000)
    twice, total = cap(once, 1_000, dropped)
    assert twice.count("left out") == 1
    assert f"… {total:,} characters left out …" in twice
    assert total > dropped > 5_000
