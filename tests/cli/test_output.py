"""Untrusted text on the terminal."""

from __future__ import annotations

import os
import struct
import termios
from collections.abc import Iterator
from fcntl import ioctl
from typing import TextIO

import pexpect
import pytest

from corral.cli.output import clean, fitted, one_line
from corral.cli.preview import call_text, duration
from corral.runtime.approvals.page import argument_lines, shorten
from tests.cli.place import Place


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


@pytest.fixture
def narrow() -> Iterator[TextIO]:
    """A terminal of 40 columns."""
    ours, theirs = os.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with os.fdopen(ours), os.fdopen(theirs, "w") as stream:
        yield stream


def test_lines_are_broken_between_words_and_commands_are_not(narrow: TextIO) -> None:
    words = "  It can not be done here, because all of it is too wide."
    assert fitted(words, narrow).split("\n") == [
        "  It can not be done here, because all",
        "  of it is too wide.",
    ]
    assert fitted("detail that goes on and on", narrow, 20).split("\n") == [
        "detail that goes on",
        " " * 20 + "and on",
    ]
    command = "corral --workspace /a/very/long/path resume r-1 --max-steps 12"
    assert fitted(f"  Go on with: {command}", narrow) == f"  Go on with:\n    {command}"


def test_an_error_is_readable_on_a_terminal_and_whole_in_a_pipe(place: Place) -> None:
    words = ("mcp", "install", "claude-desktop", "--http", "http://127.0.0.1:1/mcp")
    argv = place.command(*words)
    child = pexpect.spawn(argv[0], argv[1:], env=place.env, encoding="utf-8", timeout=60)
    child.expect(pexpect.EOF)
    shown = str(child.before)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    piped = place.corral(*words).err
    assert " ".join(shown.split()) == " ".join(piped.split())
    assert len(lines) > len(piped.splitlines()) == 3
