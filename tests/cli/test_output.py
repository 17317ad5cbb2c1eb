"""Untrusted text on the terminal."""

from __future__ import annotations

import pytest

from corral.cli.output import clean, one_line
from corral.cli.preview import argument_lines, call_text, duration, shorten


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("größe 数 🎉", "größe 数 🎉"),
        ("\x1b[2J\x1b[31mred", "\\x1b[2J\\x1b[31mred"),
        ("a\r\nb", "a\nb"),
        ("rm -rf /\rls", "rm -rf /\\rls"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("\U000e0041", "\\U000e0041"),
        ("no\u200bwhere\u2028", "no\\u200bwhere\\u2028"),
        ("\udc80", "\\udc80"),
        ("bell\x07\x00\x7f", "bell\\x07\\x00\\x7f"),
    ],
)
def test_text_that_could_deceive_is_written_out(text: str, shown: str) -> None:
    assert clean(text) == shown
    clean(text).encode("utf-8")


def test_one_line_is_short_and_marked_when_cut() -> None:
    assert one_line("a\n b\t\tc") == "a b c"
    cut = one_line("word " * 100_000, 40)
    assert len(cut) == 40
    assert cut.endswith("…")


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(None, ""), (0.4, "0 ms"), (999, "999 ms"), (1500, "1.5 s"), (125_000, "2 min 5 s")],
)
def test_durations_are_for_people(milliseconds: float | None, shown: str) -> None:
    assert duration(milliseconds) == shown


def test_a_call_fits_on_one_line() -> None:
    assert call_text("files__read_file", {"path": "a.txt"}) == 'files__read_file(path="a.txt")'
    shown = call_text("files__write_file", {"content": "x\n" * 5000})
    assert "\n" not in shown
    assert len(shown) < 150


def test_statements_are_shown_as_they_are_written() -> None:
    statements = [
        {"sql": "UPDATE a\nSET b = ?", "parameters": ["x"]},
        {"sql": "DELETE FROM c \x1b[2K"},
    ]
    assert list(argument_lines({"database": "shop", "statements": statements})) == [
        "database: shop",
        "statements:",
        "  UPDATE a",
        "  SET b = ?",
        '    parameters: ["x"]',
        "  DELETE FROM c \\x1b[2K",
    ]


def test_what_is_long_is_shortened_and_counted() -> None:
    lines = [f"line {number}" for number in range(1000)]
    cut = shorten(lines, 60)
    assert len(cut) == 61
    assert "… 940 more lines …" in cut
    assert (cut[0], cut[-1]) == (lines[0], lines[-1])
    assert shorten(lines, None) == lines
