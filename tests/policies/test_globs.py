from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.policies.patterns.globs import (
    compile_glob,
    escape,
    glob_covers,
    is_literal,
    match_segments,
    segments_cover,
    unescape,
)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("files__read", "files__read", True),
        ("files__read", "files__read2", False),
        ("files__*", "files__read", True),
        ("files__*", "files__", True),
        ("files__*", "other__files__read", False),
        ("*", "", True),
        ("*", "a\nb", True),
        ("", "", True),
        ("", "a", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("ab*ba", "aba", False),
        ("?", "é", True),
        ("a?c", "ac", False),
        ("a?c*", "a\ncd", True),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        (".*", "x", False),
        (r"\*", "*", True),
        (r"\*", "a", False),
        (r"\?", "x", False),
        (r"\\*", r"\anything", True),
        (r"C:\dir", r"C:\dir", True),
    ],
)
def test_a_pattern_matches_no_more_than_it_says(pattern: str, text: str, expected: bool) -> None:
    assert compile_glob(pattern).matches(text) is expected


@settings(deadline=None)
@given(text=st.text(), other=st.text())
def test_an_escaped_text_matches_itself_only(text: str, other: str) -> None:
    glob = compile_glob(escape(text))
    assert glob.matches(text)
    assert glob.matches(other) is (text == other)


@settings(deadline=None)
@given(parts=st.lists(st.text(alphabet="ab*", max_size=3), min_size=1, max_size=4), gap=st.text())
def test_a_star_stands_for_anything(parts: list[str], gap: str) -> None:
    pattern = "*".join(map(escape, parts))
    assert compile_glob(pattern).matches(gap.join(parts))


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("**", "", True),
        ("**", "a/b", True),
        ("a/**", "a", True),
        ("a/**", "a/b/c", True),
        ("a/**", "ab", False),
        ("**/c", "c", True),
        ("**/c", "a/b/c", True),
        ("a/**/c", "a/c", True),
        ("a/**/b/**/c", "a/x/b/y/b/c", True),
        ("a/**/b/**/c", "a/x/y/c", False),
        ("*", "a/b", False),
        ("*.md", "a.md", True),
        ("a/*/c", "a/b/c", True),
        ("a/*/c", "a/b/b/c", False),
    ],
)
def test_two_stars_go_across_segments(pattern: str, path: str, expected: bool) -> None:
    assert match_segments(pattern.split("/"), [s for s in path.split("/") if s]) is expected


def test_no_text_makes_matching_slow() -> None:
    started = time.process_time()
    assert not compile_glob("*a*a*a*a*a*b").matches("a" * 20_000)
    assert not match_segments(["**", "a"] * 10 + ["b"], ["a"] * 2_000)
    assert time.process_time() - started < 2


@settings(deadline=None, max_examples=400)
@given(
    wider=st.text(alphabet="ab*?\\", max_size=6),
    narrower=st.text(alphabet="ab*?\\", max_size=6),
    text=st.text(alphabet="ab*?\\", max_size=6),
)
def test_a_pattern_that_covers_another_matches_all_that_it_does(
    wider: str, narrower: str, text: str
) -> None:
    if glob_covers(wider, narrower) and compile_glob(narrower).matches(text):
        assert compile_glob(wider).matches(text)


@settings(deadline=None, max_examples=400)
@given(
    wider=st.lists(st.sampled_from(["**", "*", "a", "a*", "b"]), max_size=4),
    narrower=st.lists(st.sampled_from(["**", "*", "a", "a*", "b"]), max_size=4),
    segments=st.lists(st.sampled_from(["a", "ab", "b"]), max_size=4),
)
def test_the_same_of_segments(wider: list[str], narrower: list[str], segments: list[str]) -> None:
    if segments_cover(wider, narrower) and match_segments(narrower, segments):
        assert match_segments(wider, segments)


@pytest.mark.parametrize(
    ("wider", "narrower", "expected"),
    [("*", "a*b", True), ("a*", "ab?", True), ("a?", "a*", False), ("*a*", "bab", True)],
)
def test_what_covers_what(wider: str, narrower: str, expected: bool) -> None:
    assert glob_covers(wider, narrower) is expected


@given(text=st.text())
def test_a_literal_pattern_is_the_text_that_it_matches(text: str) -> None:
    assert is_literal(escape(text))
    assert unescape(escape(text)) == text
    assert not is_literal(f"{escape(text)}*")
