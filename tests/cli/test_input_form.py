"""What a tool server asks, from the command line and in the conversation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.place import Chat, Place
from tests.tools.support import SERVERS

SCRIPT = """
- tool_calls: [{name: ask__delete, args: {}}]
- {text: "All done."}
"""
CONFIG = """
[[rules]]
server = "ask"
action = "allow"
untrusted = true

[mcp.ask]
command = COMMAND
args = ["-S", "-E", SCRIPT, "ERA", NOTES]
sandbox = false
"""


def asking(place: Place, era: str) -> Place:
    """The place with the server ``ask`` in the user's own configuration."""
    (place.scripts / "delete.yaml").write_text(SCRIPT)
    filled = {
        "COMMAND": json.dumps(sys.executable),
        "SCRIPT": json.dumps(str(SERVERS / "asking.py")),
        "NOTES": json.dumps(str(place.scripts / "notes")),
        "ERA": era,
    }
    text = CONFIG
    for name, value in filled.items():
        text = text.replace(name, value)
    own = Path(os.environ["XDG_CONFIG_HOME"], "corral", "config.toml")
    own.parent.mkdir(parents=True)
    own.write_text(text)
    return place


@pytest.fixture
def paused(place: Place) -> Place:
    """A place in which a run waits for what a server asks."""
    run = run_it(asking(place, "modern"))
    assert run[0] == 3, run[1]
    return place


def run_it(place: Place) -> tuple[int, str]:
    done = place.corral("run", "Delete it", "--model", place.model("delete"))
    return done.code, done.out + done.err


def test_the_form_is_shown_with_how_to_answer(paused: Place) -> None:
    shown = paused.corral("approvals").out
    for text in (
        "its server asks you",
        "ask asks: Whose is it?",
        "name (string, needed): Whose it is.",
        "copies (integer, default 1)",
        "sure (boolean, needed)",
        "what you answer goes to ask",
        "--value name=… --value sure=…",
    ):
        assert text in shown


def test_it_is_filled_in_field_by_field(paused: Place) -> None:
    wrong = paused.corral("approve", "last", "--value", "name=Ann", "--value", "sure=maybe")
    assert (wrong.code, "sure is yes or no" in wrong.err) == (2, True), wrong.err
    missing = paused.corral("approve", "last", "--value", "name=Ann")
    assert (missing.code, "sure" in missing.err) == (2, True), missing.err
    values = ("--value", "name=Ann", "--value", "sure=yes", "--value", "copies=2")
    done = paused.corral("approve", "last", *values)
    assert done.code == 0, done.err
    gone_on = paused.corral("resume", "last")
    assert "All done." in gone_on.out, gone_on.err
    noted = (paused.scripts / "notes").read_text()
    assert '"content": {"copies": 2, "name": "Ann", "sure": true}' in noted


@pytest.mark.slow
def test_a_call_that_is_kept_waiting_goes_on_where_it_was_made(place: Place) -> None:
    asking(place, "legacy")
    command = place.command("run", "Delete it", "--model", place.model("delete"), "--json")
    with subprocess.Popen(command, env=place.env, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        events = map(json.loads, run.stdout)
        asked = next(event for event in events if event["type"] == "approval_requested")
        values = ("--value", "name=Ann", "--value", "sure=yes")
        answered = place.corral("approve", asked["approval"]["id"], *values)
        assert answered.code == 0, answered.err
        assert answered.err.endswith("the call that waits for it goes on\n")
        *_, result = events
        assert (run.wait(timeout=60), result["output"]) == (0, "All done.")


def test_values_are_for_a_form(place: Place) -> None:
    (place.scripts / "write.yaml").write_text(
        "- tool_calls: [{name: files__write_file, args: {path: a.txt, content: x}}]\n- {text: x}\n"
    )
    place.corral("run", "Write", "--model", place.model("write"))
    wrong = place.corral("approve", "last", "--value", "path=b.txt")
    assert (wrong.code, "--edit" in wrong.err) == (2, True), wrong.err


@pytest.mark.slow
@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_in_the_conversation(place: Place, era: str) -> None:
    asking(place, era)
    chat = Chat(place, "--model", place.model("delete"))
    chat.see("»")
    chat.type("Delete it")
    chat.see("Whose is it?", "Answer it?")
    chat.type("y")
    chat.see("name:")
    chat.type("Ann")
    chat.see("copies:")
    chat.type("")
    chat.see("sure:")
    chat.type("yes")
    chat.see("All done.", "»")
    chat.leave()
    assert '"name": "Ann"' in (place.scripts / "notes").read_text()
