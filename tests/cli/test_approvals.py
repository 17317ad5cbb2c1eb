"""Questions from the command line: what they show, every kind of answer, and rules that stay."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing

import pytest

from tests.cli.place import CIRCLES, Place

ESCAPE = "\x1b[2J\u202egnp.exe"
WRITE_TWICE = """
- tool_calls:
  - {name: files__write_file, args: {path: one.txt, content: "1\\n"}}
  - {name: files__write_file, args: {path: two.txt, content: "2\\n"}}
- {text: "Both are written."}
"""


@pytest.fixture
def paused(place: Place) -> Place:
    """A place in which a run waits: it wants to write two files."""
    (place.scripts / "twice.yaml").write_text(WRITE_TWICE)
    assert place.corral("run", "Write both", "--model", place.model("twice")).code == 3
    return place


def open_ids(place: Place) -> list[str]:
    lines = place.corral("approvals", "--json").lines
    return [line["id"] for line in sorted(lines, key=lambda line: str(line["args"]["path"]))]


def test_a_question_shows_what_will_happen_and_every_way_to_answer(paused: Place) -> None:
    (paused.workspace / "one.txt").write_text("before\n")
    first, _ = open_ids(paused)
    shown = paused.corral("approvals").out
    for text in (
        "asked by assistant: Write both",
        "path: one.txt",
        "+1",
        "has read: the user",
        "1 of 12 steps",
        "why asked: files__write_file may change things",
        f"allow:           corral approve {first}",
        f"refuse:          corral deny {first} --reason '…'",
        f"give the result: corral give {first} --result '…'",
        f"stop the run:    corral stop {first}",
    ):
        assert text in shown
    assert "one.txt has changed since this was asked" in shown
    whole = paused.corral("approvals", "show", first).out
    assert "always, rule 1: files__write_file where" in whole
    record = paused.corral("approvals", "show", first, "--json").lines[0]
    assert record["context"]["file"]["diff"][0] == "--- new file"
    assert record["warnings"]


def test_what_comes_from_outside_can_deceive_no_terminal(place: Place) -> None:
    args = {"path": "a.txt", "content": f"{ESCAPE}\n"}
    call = {"name": "files__write_file", "args": args}
    (place.scripts / "evil.yaml").write_text(json.dumps([{"tool_calls": [call]}, {"text": "x"}]))
    run = place.corral("run", f"Write {ESCAPE}", "--model", place.model("evil"))
    shown = run.err + place.corral("approvals").out + place.corral("approvals", "show", "last").out
    assert "+\\x1b[2J\\u202egnp.exe" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_answers_of_each_kind_in_any_order(paused: Place) -> None:
    first, second = open_ids(paused)
    given = paused.corral("give", second, "--result", "written by hand")
    assert given.code == 0, given.err
    edited = paused.corral("approve", first, "--edit", '{"path": "other.txt", "content": "x"}')
    assert edited.code == 0, edited.err
    done = paused.corral("resume", "last")
    assert (done.code, "Both are written." in done.out) == (0, True), done.err
    assert sorted(file.name for file in paused.workspace.glob("*.txt")) == ["other.txt"]
    answered = {line["id"]: line for line in paused.corral("approvals", "--all", "--json").lines}
    assert answered[second]["answered_by"].startswith("user:")
    assert (answered[first]["edited"], answered[first]["args"]["path"]) == (True, "other.txt")
    assert "answered by: user:" in paused.corral("approvals", "--all").out


def test_stopping_ends_the_run_and_its_questions(paused: Place) -> None:
    first, second = open_ids(paused)
    stopped = paused.corral("stop", first, "--reason", "wrong folder")
    assert stopped.err.startswith("stopped: files__write_file"), stopped.err
    assert paused.corral("approvals", "--json").lines == []
    (run,) = paused.corral("runs", "--json").lines
    assert (run["status"], "wrong folder" in run["error"]) == ("stopped", True)
    again = paused.corral("resume", "last")
    assert (again.code, "corral run --thread" in again.err) == (4, True)
    late = paused.corral("approve", second)
    assert (late.code, "that answer stands" in late.err) == (2, True)


@pytest.mark.slow
def test_a_rule_is_previewed_stored_listed_and_removed(paused: Place) -> None:
    first, second = open_ids(paused)
    assert paused.corral("approve", first).code == 0
    assert paused.corral("deny", second, "--reason", "no").code == 0
    assert paused.corral("resume", "last").code == 0
    assert paused.corral("run", "Again", "--model", paused.model("twice")).code == 3
    first, second = open_ids(paused)
    rule = '{tool = "files__write_file", args = {path = "*.txt"}}'
    dry = paused.corral("approve", first, "--always", "--rule", rule, "--dry-run")
    assert "would have matched 2 past calls" in dry.out
    assert "one.txt" in dry.out
    assert len(open_ids(paused)) == 2, "nothing was answered"
    matches = paused.corral("approvals", "--would-match", rule, "--json").lines
    assert {match["args"]["path"] for match in matches} == {"one.txt", "two.txt"}

    stored = paused.corral("approve", first, "--rule", rule, "--scope", "project", "--until", "7d")
    assert stored.code == 0, stored.err
    assert paused.corral("resume", "last").code == 0
    assert paused.corral("run", "And again", "--model", paused.model("twice")).code == 0
    (line,) = paused.corral("approvals", "rules", "--json").lines
    assert (line["scope"], line["approval"]) == ("project", first)
    assert "path is *.txt" in paused.corral("approvals", "rules").out
    assert paused.corral("approvals", "forget", line["id"]).code == 0
    assert paused.corral("approvals", "rules", "--json").lines == []
    assert paused.corral("run", "Once more", "--model", paused.model("twice")).code == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("approve", "ID", "--edit", "{"), "not JSON"),
        (("approve", "ID", "--edit", '{"path": 3}'), "path"),
        (("approve", "ID", "--until", "7d"), "Add --always"),
        (("approve", "ID", "--rule", '{tool = "mail__*"}'), "does not fit the call"),
        (("approve", "ID", "--rule", "7"), "no suggestion 7"),
        (("deny", "ID"), "--reason"),
        (("approve", "a-none"), "no approval 'a-none'"),
        (("approvals", "forget", "s-none"), "no standing rule"),
        (("approvals", "--would-match", "tool ="), "not TOML"),
    ],
)
def test_what_cannot_be_answered_so_is_said(
    paused: Place, args: tuple[str, ...], words: str
) -> None:
    first = open_ids(paused)[0]
    result = paused.corral(*(first if arg == "ID" else arg for arg in args))
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert len(open_ids(paused)) == 2


@pytest.mark.slow
def test_a_run_waits_for_answers_from_elsewhere(place: Place) -> None:
    command = place.command("run", "Write", "--model", place.model("write"), "--wait", "--json")
    with subprocess.Popen(
        command, env=place.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        asked = next(
            event for event in map(json.loads, run.stdout) if event["type"] == "approval_requested"
        )
        approved = place.corral("approve", asked["approval"]["id"])
        assert approved.code == 0
        assert approved.err.endswith("it goes on in the terminal that waits for the answer\n")
        *_, result = map(json.loads, run.stdout)
        assert (run.wait(timeout=60), result["status"]) == (0, "completed")
    assert (place.workspace / "notes.txt").exists()


def long_ago(place: Place, column: str) -> None:
    with closing(sqlite3.connect(place.home / "corral.db")) as connection, connection:
        connection.execute(f"UPDATE approvals SET {column} = '2026-01-01T00:00:00.000Z'")


def test_questions_are_escalated_by_name_and_denied_in_the_end(paused: Place) -> None:
    config = paused.home.parent / "config" / "corral" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('[approvals]\nescalate_after = "1h"\nescalate_to = ["lead", "oncall"]\n')
    assert paused.corral("approvals", "--for", "oncall", "--json").lines == []
    long_ago(paused, "created_at")
    found = paused.corral("approvals", "--for", "oncall", "--json").lines
    assert {line["asked_of"] for line in found} == {"oncall"}
    assert "asked of: oncall" in paused.corral("approvals").out

    config.write_text('[approvals]\ntimeout = "24h"\n')
    late = paused.corral("run", "Write", "--model", paused.model("write"))
    assert "denied if nobody answers by" in late.err
    long_ago(paused, "expires_at")
    assert paused.corral("resume", "last").code == 0
    assert not (paused.workspace / "notes.txt").exists()
    answered = paused.corral("approvals", "--all", "--json").lines
    assert {line["answered_by"] for line in answered} == {"timeout"}


def test_a_rule_answers_what_else_waits(paused: Place) -> None:
    first, second = open_ids(paused)
    rule = '{tool = "files__write_file", args = {path = "*.txt"}}'
    answered = paused.corral("approve", first, "--rule", rule, "--scope", "run")
    assert f"the rule has answered 1 other question, too: {second}" in answered.err
    assert paused.corral("approvals", "--json").lines == []
    assert paused.corral("resume", "last").code == 0
    assert "answered by: rule:s-" in paused.corral("approvals", "--all").out


def test_a_limit_is_asked_about_in_words_and_raised(place: Place) -> None:
    model = place.model("read")
    run = place.corral("run", "Count", "--model", model, "--budget", "model_calls=1")
    assert run.code == 3
    assert "1 question about how to go on" in run.err
    shown = place.corral("approvals", "--run", "last").out
    for text in (
        "budget  a limit is reached",
        "a yes raises the limit to: 3 (model calls)",
        "why asked: The limit of the run's budget is reached",
        "raise the limit: corral approve a-",
        "end here:        corral deny a-",
    ):
        assert text in shown
    assert "holder" not in shown
    assert "give the result" not in shown
    for wrong in ("1", "1.5", "NaN", "1e999", '"many"'):
        refused = place.corral("approve", "last", "--edit", f'{{"raise_to": {wrong}}}')
        assert (refused.code, "othing was answered" in refused.err) == (2, True), wrong
    assert place.corral("give", "last", "--result", "x").code == 2
    assert place.corral("approve", "last", "--edit", '{"raise_to": 5}').code == 0
    done = place.corral("resume", "last")
    assert (done.code, "There are two orders." in done.out) == (0, True), done.err
    again = place.corral("run", "Count", "--model", model, "--budget", "model_calls=1")
    assert (again.code, place.corral("deny", "last", "--reason", "enough").code) == (3, 0)
    ended = place.corral("resume", "last")
    assert (ended.code, "it was not raised: enough" in ended.out) == (4, True)
    assert "--budget WHAT=LIMIT" in ended.err
    (place.workspace / "corral.toml").write_text(
        '[budgets.day]\nmodel_calls = 1\nat_limit = "answer"\n'
    )
    today = place.corral("run", "Count", "--model", model)
    assert (today.code, "a higher limit in your configuration" in today.err) == (4, True)


def test_an_agent_in_circles_is_shown_and_goes_on_or_not(place: Place) -> None:
    (place.scripts / "circles.yaml").write_text(CIRCLES)
    assert place.corral("run", "Look", "--model", place.model("circles")).code == 3
    shown = place.corral("approvals", "--run", "last").out
    for text in (
        "files__read_file  the agent seems to go round in circles",
        "path: orders.csv",
        "was called 3 times with the same arguments",
        "let it go on: corral approve a-",
        "refuse:       corral deny a-",
    ):
        assert text in shown
    for wrong in (("approve", "--edit", "{}"), ("give", "--result", "x"), ("approve", "--always")):
        refused = place.corral(wrong[0], "last", *wrong[1:])
        assert (refused.code, refused.out) == (2, ""), wrong
    assert place.corral("approve", "last").code == 0
    done = place.corral("resume", "last")
    assert (done.code, "Nothing new." in done.out) == (0, True), done.err


def test_the_questions_of_one_run_are_those_of_the_run_that_is_named(paused: Place) -> None:
    assert len(paused.corral("approvals", "--run", "last", "--json").lines) == 2
    nowhere = paused.corral("approvals", "--run", "r-none")
    assert (nowhere.code, "no run 'r-none'" in nowhere.err) == (2, True)
