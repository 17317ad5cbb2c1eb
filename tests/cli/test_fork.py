"""`corral fork`: the past is shared, the change is made, and what cannot be is said in words."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from sqlalchemy import create_engine

from corral.runtime import lease
from tests.cli.place import Chat, Place
from tests.cli.runs import call, effects, number, run, script, turn, without_servers

LOOK = turn("Look.", call("notes__read", name="a"), call("notes__read", name="b"))


@pytest.fixture
def parent(place: Place) -> str:
    """A run of a model call, two parallel tool calls and an answer."""
    without_servers(place)
    return run(place, script(place, "two", LOOK, turn("It says one.")), "What does it say?")


def forked(place: Place, parent: str, *args: str, stdin: str = "") -> list[dict[str, Any]]:
    """Fork, and the new run's own effects."""
    done = place.corral("fork", parent, "--json", *args, stdin=stdin)
    assert done.code == 0, done.err
    new = done.lines[-1]["run"]
    assert new != parent
    return [one for one in effects(place, new) if one["run"] == new]


def test_a_result_is_replaced_and_the_rest_is_live(place: Place, parent: str) -> None:
    before = effects(place, parent)
    at = number(place, parent, "tool")
    (place.workspace / "given.txt").write_text("one\ntwo\n")
    done = place.corral("fork", parent, "--at", str(at), "--set-result", "given.txt")
    assert (done.code, done.out) == (0, "It says one.\n"), done.err
    new = place.corral("runs", "--json").lines[0]
    assert (new["parent"], new["fork_at"], new["steps"]) == (parent, at, 2)
    assert f"fork of {parent} at effect {at}: 3 effects (1 model, 1 tool) shared" in done.err
    assert f"kept, because they were made beside it and not after it: {at + 1}" in done.err
    assert f"compare: corral diff {parent} {new['run']}" in done.err
    own = [one for one in effects(place, new["run"]) if one["run"] == new["run"]]
    assert [one["kind"] for one in own] == ["tool", "model"]
    assert own[0]["result"]["text"] == "one\ntwo"
    assert "one\\ntwo" in json.dumps(own[1]["request"])
    assert effects(place, parent) == before, "the parent stays as it was"
    assert place.corral("replay", "last").code == 0


GIVEN: list[tuple[str, str, dict[str, Any]]] = [
    ("tool", '{"text": "no", "is_error": true}', {"text": "no", "is_error": True}),
    ("tool", '{"rows": [1, 2]}', {"text": '{"rows": [1, 2]}', "structured": {"rows": [1, 2]}}),
    ("tool", "[1, 2]", {"text": "[1, 2]"}),
    ("model", "It says two.", {"text": "It says two."}),
    ("model", '{"text": "Again.", "tool_calls": []}', {"text": "Again."}),
]


def test_a_result_is_a_text_or_an_object(place: Place, parent: str) -> None:
    for kind, given, kept in GIVEN:
        at = str(number(place, parent, kind, nth=1))
        own = forked(place, parent, "--at", at, "--set-result", "-", stdin=given)
        assert {name: own[0]["result"][name] for name in kept} == kept


def test_a_model_can_be_given_other_calls(place: Place, parent: str) -> None:
    given = {"text": "", "tool_calls": [{"name": "notes__list", "args": {"all": True}}]}
    at = str(number(place, parent, "model"))
    own = forked(place, parent, "--at", at, "--set-result", "-", stdin=json.dumps(given))
    assert [(one["kind"], one["name"]) for one in own][:2] == [
        ("model", own[0]["name"]),
        ("tool", "notes__list"),
    ]
    assert own[1]["request"]["args"] == {"all": True}


def test_another_model_takes_over(place: Place, parent: str) -> None:
    other = script(place, "other", LOOK, turn("It says three."))
    at = str(number(place, parent, "model", 1))
    own = forked(place, parent, "--at", at, "--model", other)
    assert [one["kind"] for one in own] == ["prepare", "model"]
    assert own[1]["result"]["text"] == "It says three."


def test_another_prompt_is_what_the_model_sees(
    place: Place, parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = str(number(place, parent, "model", 1))
    own = forked(place, parent, "--at", at, "--prompt", "What does it not say?")
    assert "What does it not say?" in json.dumps(own[0]["request"])
    monkeypatch.setenv("EDITOR", "sed -i s/does/did/")
    own = forked(place, parent, "--at", at, "--edit-prompt")
    assert "What did it say?" in json.dumps(own[0]["request"])


def test_an_editor_that_changes_nothing_or_fails(
    place: Place, parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = {"true": "The prompt is what it was", "false": "exit code 1", "no-such-x": "no-such-x"}
    for editor, said in cases.items():
        monkeypatch.setenv("VISUAL", editor)
        result = place.corral("fork", parent, "--at", "2", "--edit-prompt")
        assert result.code == 2
        assert said in result.err


def test_another_agent_takes_over(place: Place, parent: str) -> None:
    file = place.workspace / "brief.toml"
    other = script(place, "brief", LOOK, turn("One."))
    file.write_text(f'instructions = "Be brief."\nmodel = "{other}"\nservers = []\nfacts = 0\n')
    at = str(number(place, parent, "model", 1))
    own = forked(place, parent, "--at", at, "--agent", "brief.toml")
    assert own[-1]["result"]["text"] == "One."
    assert "Be brief." in json.dumps(own[-1]["request"])
    table = f'[agents.terse]\ninstructions = "Be terse."\nservers = []\nmodel = "{other}"\n'
    file.write_text(table)
    forked(place, parent, "--at", at, "--agent", "brief.toml")
    assert place.corral("runs", "--json").lines[0]["agent"] == "terse"


BAD_AGENTS: list[tuple[str | bytes | None, tuple[str, ...]]] = [
    ('instructions = "x"\nserver = []\n', ("line 2", "'server'", "Did you mean 'servers'?")),
    ("facts = 1\n\n[limits]\nmax_steps = 0\n", ("line 4", "limits.max_steps")),
    ("facts = 1\nservers = [}\n", ("not valid TOML", "line 2")),
    ('name = ""\n', ("line 1", "name")),
    ("functions = []\n", ("line 1", "'functions'")),
    ("[agents.a]\n[agents.b]\n", ("2 agents: a, b",)),
    (None, ("cannot be read",)),
    (b"\xff\xfe", ("UTF-8",)),
]


def test_a_bad_agent_file_is_named_with_its_line(place: Place, parent: str) -> None:
    for text, said in BAD_AGENTS:
        file = place.workspace / "a.toml"
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
        result = place.corral("fork", parent, "--at", "2", "--agent", "a.toml")
        assert (result.code, result.out) == (2, ""), text
        for words in ("a.toml", *said):
            assert words in result.err, text


BAD: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("r-none", "--at", "1", "--again"), ("There is no run 'r-none'",)),
    (("last",), ("At which effect", "--at N", "   2 model")),
    (("last", "--at", "77", "--again"), ("has no effect 77", "   5 model", "corral trace")),
    (("last", "--at", "2"), ("Nothing is changed at effect 2", "--set-result", "--again")),
    (("last", "--at", "2", "--model", "SAME"), ("already", "no change")),
    (("last", "--at", "2", "--prompt", "What does it say?"), ("what it was", "no change")),
    (("last", "--at", "2", "--prompt", "  "), ("empty",)),
    (("last", "--at", "2", "--prompt", "x", "--edit-prompt"), ("two ways",)),
    (("last", "--at", "2", "--prompt", "x", "--again"), ("--again",)),
    (("last", "--at", "1", "--set-result", "-"), ("is a prepare", "by hand")),
    (("last", "--at", "3", "--set-result", "none.txt"), ("none.txt", "No such file")),
    (("last", "--at", "3", "--set-result", "."), ("Is a directory",)),
    (("last", "--at", "3", "--set-result", "bytes.bin"), ("UTF-8",)),
    (("last", "--at", "3", "--set-result", "bad.json"), ("bad.json is not JSON", "line 1")),
    (("last", "--at", "3", "--set-result", "odd.json"), ("'text' is not a str",)),
    (("last", "--at", "3", "--set-result", "more.json"), ("'extra' is none",)),
    (("last", "--at", "3", "--set-result", "long.txt"), ("characters",)),
    (("last", "--at", "5", "--set-result", "odd.json"), ("what a model gives",)),
    (("last", "--at", "2", "--model", "nosuch:x"), ("nosuch",)),
    (("last", "--at", "2", "--again", "--policy", "none"), ("none",)),
]


def test_what_cannot_be_is_said_and_nothing_is_started(place: Place, parent: str) -> None:
    (place.workspace / "bytes.bin").write_bytes(b"\xff\x00\xfe")
    (place.workspace / "bad.json").write_text("{one: 1}")
    (place.workspace / "odd.json").write_text('{"text": 1}')
    (place.workspace / "more.json").write_text('{"text": "x", "extra": 1}')
    (place.workspace / "long.txt").write_text("x" * 200_001)
    same = place.corral("runs", "--json").lines[0]["model"]
    for args, said in BAD:
        given = [same if arg == "SAME" else arg for arg in args]
        result = place.corral("fork", *given)
        assert (result.code, result.out) == (2, ""), (args, result.err)
        for words in said:
            assert words in result.err, args
        assert len(result.err.splitlines()) >= 2, "a hint says what to do next"
    assert len(place.corral("runs", "--json").lines) == 1


def test_the_recorded_result_is_no_change(place: Place, parent: str) -> None:
    at = number(place, parent, "model", 1)
    result = place.corral(
        "fork", parent, "--at", str(at), "--set-result", "-", stdin="It says one."
    )
    assert result.code == 2
    assert f"The result of effect {at} is what it was." in result.err


def test_a_dry_run_says_what_would_be_done(place: Place, parent: str) -> None:
    at = str(number(place, parent, "tool"))
    args = ("fork", parent, "--at", at, "--set-result", "-", "--dry-run")
    told = place.corral(*args, stdin="three").out
    for words in (
        f"fork of {parent} at effect {at}",
        "shared   3 effects (1 model, 1 tool)",
        "spent    1 steps",
        f"changed  the result of effect {at}: three",
        'kept     4 tool notes__read(name="b"), made beside it',
        "5 model",
    ):
        assert words in told
    assert "changes something" not in told
    (plan,) = place.corral(*args, "--json", stdin="three").lines
    assert [one["seq"] for one in plan["kept"]] == [1, 2, 4]
    assert ([one["seq"] for one in plan["again"]], plan["changes"]) == ([5], ["result"])
    warned = place.corral("fork", parent, "--at", "2", "--again", "--dry-run").out
    assert 'notes__read(name="a")  changes something' in warned
    assert "2 calls may change something again" in warned
    assert len(place.corral("runs", "--json").lines) == 1


def test_what_was_spent_before_counts(place: Place, parent: str) -> None:
    at = str(number(place, parent, "model", 1))
    stopped = place.corral("fork", parent, "--at", at, "--again", "--max-steps", "1")
    assert stopped.code == 4
    assert "corral resume" in stopped.err
    assert place.corral("resume", "last", "--max-steps", "2").code == 0


@contextlib.contextmanager
def going_on(place: Place, run: str) -> Iterator[None]:
    """The run, as if this process were making it right now."""
    database = place.home / "corral.db"
    with sqlite3.connect(database) as rows:
        rows.execute("update runs set status = 'running' where id = ?", (run,))
        (thread,) = rows.execute("select thread_id from runs where id = ?", (run,)).fetchone()
    rows.close()
    engine = create_engine(f"sqlite:///{database}")
    with lease.holding() as held:
        with engine.begin() as connection:
            lease.take(connection, thread, held)
        yield
    engine.dispose()


def test_a_run_that_is_going_on_has_no_settled_past(place: Place, parent: str) -> None:
    with going_on(place, parent):
        for more in ((), ("--dry-run",)):
            result = place.corral("fork", parent, "--at", "2", "--again", *more)
            assert result.code == 2
            assert "is going on" in result.err
    # Cut off, it has one.
    assert place.corral("fork", parent, "--at", "2", "--again").code == 0


def test_a_question_is_asked_again_and_is_no_point_to_fork_at(place: Place) -> None:
    (place.workspace / "corral.toml").write_text(
        '[agents.assistant]\nservers = ["files"]\nfacts = 0\n'
    )
    paused = place.corral("run", "Write", "--model", place.model("write"))
    assert paused.code == 3
    asked = str(number(place, "last", "approval"))
    assert place.corral("approve", "last").code == 0
    assert place.corral("resume", "last").code == 0
    parent = place.corral("runs", "--json").lines[0]["run"]
    at = number(place, parent, "tool")
    refused = place.corral("fork", parent, "--at", asked, "--again")
    assert refused.code == 2
    assert "is a question to a human" in refused.err
    assert f"fork at the call itself, effect {at}" in refused.err
    again = place.corral("fork", parent, "--at", str(at), "--again")
    assert again.code == 3
    assert "corral approve" in again.err
    assert "compare: corral diff" in again.err


@pytest.mark.slow
def test_on_a_terminal_the_effect_is_asked_for(place: Place, parent: str) -> None:
    argv = place.command("fork", parent, "--again")
    child = pexpect.spawn(argv[0], argv[1:], env=place.env, encoding="utf-8", timeout=60)
    child.expect_exact("notes__read")
    child.expect_exact("Fork at effect")
    child.sendline("5")
    child.expect_exact("It says one.")
    child.expect_exact("compare: corral diff")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_the_workspace_is_the_run_s(place: Place, parent: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    result = place.corral("--workspace", str(other), "fork", parent, "--at", "2", "--again")
    assert result.code == 2
    assert str(place.workspace) in result.err


@pytest.mark.slow
def test_the_repl_goes_on_in_the_fork(place: Place, parent: str) -> None:
    at, model = number(place, parent, "model", 1), place.model("two")
    chat = Chat(place, "--model", model)
    chat.see("/help lists the commands", "»")
    chat.type("What does it say?")
    chat.see("It says one.", "»")
    chat.type("/fork x")
    chat.see("Say at which effect", "»")
    chat.type(f"/fork {at} What did it say?")
    chat.see("It says one.", "»")
    chat.leave()
    fork, first, *_ = place.corral("runs", "--json").lines
    assert (fork["parent"], fork["fork_at"]) == (first["run"], at)
    assert fork["prompt"] == "What did it say?"
    assert fork["thread"] != first["thread"]
