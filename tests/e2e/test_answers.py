"""Answers that come twice, too late, or for something else than what was asked."""

from __future__ import annotations

import pytest

from tests.e2e.shell import Shell, turn

pytestmark = pytest.mark.slow


@pytest.fixture
def question(shell: Shell) -> dict[str, str]:
    """A paused run's question: may notes.txt be written?"""
    args = {"path": "notes.txt", "content": "one\n"}
    model = shell.model("write", turn("I write.", files__write_file=args), turn("Written."))
    paused = shell.quick("run", "Write", "--json", "--model", model)
    assert paused.code == 3, paused.err
    (asked,) = paused.last["approvals"]
    return {"id": asked["id"], "run": asked["run"]}


def test_only_the_first_answer_counts(shell: Shell, question: dict[str, str]) -> None:
    for wrong in ("{", '{"path": 3, "content": "x"}', '{"path": "x"}', "[]"):
        refused = shell.quick("approve", question["id"], "--edit", wrong)
        refused.says()
        assert refused.code == 2
    assert shell.quick("deny", question["id"], "--reason", "not today").code == 0
    again = [
        ("approve", question["id"]),
        ("approve", question["id"], "--always"),
        ("deny", question["id"], "--reason", "never"),
    ]
    for args in again:
        refused = shell.quick(*args)
        refused.says(question["id"], "answered (denied)", "that answer stands", "corral resume")
        assert refused.code == 2
    done = shell.quick("resume", question["run"])
    assert (done.code, done.out.splitlines()[-1]) == (0, "Written.")
    assert not (shell.workspace / "notes.txt").exists()
    (call,) = shell.trace(question["run"], "tool")
    assert "not today" in call["result"]["text"]

    late = shell.quick("resume", question["run"])
    late.says("is completed")
    assert late.code == 2
    unknown = shell.quick("approve", "a-none")
    unknown.says("a-none", "corral approvals")
    assert unknown.code == 2


def test_a_cancelled_run_takes_no_answer(shell: Shell, question: dict[str, str]) -> None:
    run = question["run"]
    (row,) = shell.runs()
    hello = shell.model("hello", turn("Hello."))
    busy = shell.quick("run", "Hello", "--thread", row["thread"], "--model", hello)
    busy.says(run, "waits for an approval", "corral cancel")
    assert busy.code == 2

    assert shell.quick("cancel", run).code == 0
    refused = shell.quick("approve", question["id"])
    refused.says(question["id"], "answered (denied)")
    assert refused.code == 2
    assert shell.quick("approvals", "--json").out == ""
    again = shell.quick("cancel", run)
    again.says("nothing to cancel")
    assert again.code == 2
    assert not (shell.workspace / "notes.txt").exists()
    assert shell.runs()[0]["status"] == "stopped"

    on = shell.quick("run", "Hello", "--json", "--thread", row["thread"], "--model", hello)
    assert (on.code, on.last["output"]) == (0, "Hello."), "its thread goes on"
    asked = shell.trace(on.last["run"], "model")[0]["request"]["messages"]
    made = shell.trace(run, "model")[0]["result"]["message"]  # in the run before: "earlier" here
    calls = [call["id"] for call in made["tool_calls"]]
    answered = [message["tool_call_id"] for message in asked if message["type"] == "tool"]
    assert calls == answered, "no call is left without an answer"
