"""`corral replay`: one run or all of them, what differs, and what has changed since."""

from __future__ import annotations

import json
import sqlite3

import pexpect
import pytest

import corral
from corral.runtime.config import Settings
from tests.cli.place import Place
from tests.cli.runs import call, effects, run, script, turn, without_servers
from tests.runtime.agents import Ledger, scripted
from tests.runtime.agents import turn as said


@pytest.fixture
def done(place: Place) -> str:
    """A run with a tool call."""
    without_servers(place)
    return run(
        place, script(place, "two", turn("Look.", call("notes__read", name="a")), turn("Done."))
    )


def change(place: Place, statement: str, *values: str) -> None:
    """Change one row of the database behind Corral's back."""
    with sqlite3.connect(place.home / "corral.db") as database:
        assert database.execute(statement, values).rowcount == 1
    database.close()


def other_arguments(place: Place, run: str) -> None:
    """Make the recorded call another than the one that the graph asks for."""
    change(
        place,
        "update effects set request = replace(request, '\"a\"', '\"b\"'), digest = 'changed' "
        "where kind = 'tool' and run_id = ?",
        run,
    )


def test_an_identical_replay_says_how_fast_it_was(place: Place, done: str) -> None:
    shown = place.corral("replay", "last")
    assert shown.code == 0, shown.err
    count = len(effects(place, done))
    assert shown.out.startswith(f"identical  {count} effects, {count} reused, 0 executed  ")
    assert shown.out.rstrip().endswith("a second")
    (report,) = place.corral("replay", done[:8], "--json").lines
    assert (report["run"], report["status"], report["changed"]) == (done, "identical", [])
    assert report["duration_ms"] > 0


def test_the_first_divergence_is_a_diff(place: Place, done: str) -> None:
    other_arguments(place, done)
    shown = place.corral("replay", done)
    assert shown.code == 5
    for words in (
        "diverged  ",
        "first divergence: At effect 3 (step 2, node tools",
        "--- recorded\n+++ asked for now\n",
        '-  "name": "b"\n',
        '+  "name": "a"\n',
    ):
        assert words in shown.out
    report = place.corral("replay", done, "--json")
    assert (report.code, report.lines[0]["status"]) == (5, "diverged")


def test_what_changed_since_is_told_in_any_case(place: Place, done: str) -> None:
    was = json.dumps({"corral": "0.0.1", "graph": "react/0", "functions": {}, "own_graph": None})
    change(place, "update runs set code = ? where id = ?", was, done)
    shown = place.corral("replay", done)
    assert shown.code == 0
    assert f"changed since: Corral was 0.0.1 and is {corral.__version__}" in shown.out
    assert "changed since: the graph was react/0" in shown.out
    assert "Corral was 0.0.1" in place.corral("replay", "--all").out


def test_all_runs_are_replayed_and_summed_up(place: Place, done: str) -> None:
    diverging, damaged, own = (run(place, place.model("two")) for _ in range(3))
    other_arguments(place, diverging)
    change(place, "update effects set result = '{torn' where kind = 'tool' and run_id = ?", damaged)
    change(place, "update runs set spec = replace(spec, ?, ?) where id = ?",
           '"own_graph":false', '"own_graph":true', own)  # fmt: skip
    shown = place.corral("replay", "--all")
    assert shown.code == 5
    words = {line.split()[0]: line.split()[1] for line in shown.out.splitlines() if line}
    assert words[done] == "identical"
    assert (words[diverging], words[damaged], words[own]) == ("diverged", "failed", "skipped")
    assert "4 runs: 1 identical, 1 diverged, 1 skipped, 1 failed; " in shown.out
    assert "is damaged" in shown.out
    assert "a graph of the program that started it" in " ".join(shown.out.split())

    reports = place.corral("replay", "--all", "--json").lines
    assert [one["status"] for one in reports] == ["skipped", "failed", "diverged", "identical"]
    assert "damaged" in reports[1]["error"]

    thread = next(
        one["thread"] for one in place.corral("runs", "--json").lines if one["run"] == damaged
    )
    assert place.corral("replay", "--all", "--thread", thread).code == 1
    alone = place.corral("replay", damaged)
    assert (alone.code, alone.out) == (1, "")
    assert "is damaged" in alone.err


def test_wrong_usage_says_what_to_write(place: Place) -> None:
    for args in ((), ("last", "--all"), ("last", "--thread", "t-1"), ("--thread", "t-1")):
        result = place.corral("replay", *args)
        assert (result.code, result.out) == (2, "")
        assert "corral replay last" in result.err
    for missing in (["last"], ["r-none"], ["--all", "--thread", "t-none"]):
        result = place.corral("replay", *missing)
        assert (result.code, result.out) == (2, "")
        assert len(result.err.splitlines()) == 2
    empty = place.corral("replay", "--all")
    assert (empty.code, empty.out) == (0, "")
    assert "No runs yet" in empty.err


@pytest.mark.slow
def test_a_terminal_sees_how_far_it_is_and_colours(place: Place, done: str) -> None:
    other_arguments(place, done)
    env = {**place.env, "TERM": "xterm-256color"}
    del env["NO_COLOR"]
    argv = place.command("replay", done)
    child = pexpect.spawn(argv[0], argv[1:], env=env, encoding="utf-8", timeout=60)
    shown = child.read()
    child.close()
    assert child.exitstatus == 5
    assert "reading" in shown
    assert '\x1b[32m+  "name": "a"' in shown
    assert '\x1b[31m-  "name": "b"' in shown


async def test_progress_counts_the_effects_that_were_met(settings: Settings) -> None:
    told: list[tuple[int, int]] = []
    script = [said("Look.", balance={}), said("Again.", balance={}), said("Done.")]
    async with corral.open(settings) as c:
        run = await c.run("Look.", corral.RunOptions(agent=scripted(script, *Ledger().tools())))
        report = await c.replay(run.run, progress=lambda met, of: told.append((met, of)))
    assert told == [(met, report.effects) for met in range(1, report.effects + 1)]
