"""Untrusted text on the terminal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.cli.output import clean, one_line
from corral.cli.preview import call_text, change_lines, duration, read_beneath, shorten


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


def test_a_write_is_shown_as_a_change_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("one\ntwo\n")
    args = {"path": "notes.txt", "content": "one\n2\x1b[8m\n"}
    lines = change_lines("files__write_file", args, tmp_path)
    assert lines is not None
    assert "-two" in lines
    assert "+2\\x1b[8m" in lines


def test_a_new_file_and_an_edit_are_shown_as_changes(tmp_path: Path) -> None:
    new = change_lines("files__write_file", {"path": "a", "content": "x\n"}, tmp_path)
    assert new is not None
    assert "--- new file" in new
    assert "+x" in new
    edit = change_lines("files__edit_file", {"path": "a", "old": "x", "new": "y"}, tmp_path)
    assert edit is not None
    assert {"-x", "+y"} <= set(edit)


def test_long_changes_are_shortened_and_counted(tmp_path: Path) -> None:
    args = {"path": "a", "content": "line\n" * 1000}
    lines = change_lines("files__write_file", args, tmp_path)
    assert lines is not None
    assert len(lines) > 1000
    cut = shorten(lines, 60)
    assert len(cut) == 61
    assert f"… {len(lines) - 60} more lines …" in cut
    assert (cut[0], cut[-1]) == (lines[0], lines[-1])


def test_other_calls_have_no_change_to_show(tmp_path: Path) -> None:
    assert change_lines("files__write_file", {"path": 3, "content": "x"}, tmp_path) is None
    assert change_lines("other__write_file", {"path": "a", "content": "x"}, tmp_path) is None


def test_a_preview_never_leaves_the_workspace_and_never_waits(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_text("secret")
    (inside / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(inside / "fifo")
    (inside / "plain").write_text("plain")
    assert read_beneath(inside, "plain") == "plain"
    for path in ("link", "../secret", str(tmp_path / "secret"), "fifo", ".", "none", "a\0b"):
        assert read_beneath(inside, path) is None
