"""kill -9 in the middle of a tool call: nothing is left behind, and a human decides."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.e2e.shell import HOSTILE, Shell, alive, descendants, processes_with, turn, until

ONCE = (
    "import pathlib, time\n"
    "mark = pathlib.Path('mark.txt')\n"
    "if mark.exists():\n"
    "    print('second time')\n"
    "else:\n"
    "    mark.write_text('begun')\n"
    "    time.sleep(600)\n"
)


@pytest.fixture
def notes(shell: Shell) -> Path:
    """What the external server says that it is doing; it and its folder are configured."""
    folders = [shell.workspace / name for name in ("servers", "notes")]
    for folder in folders:
        folder.mkdir()
    script = shutil.copy(HOSTILE, folders[0])
    said = folders[1] / "said.txt"
    shell.own(
        f'[mcp.slow]\ncommand = "{sys.executable}"\n'
        f'args = ["-S", "-E", "{script}", "plain", "{said}"]\n'
        'grants = ["servers"]\nwritable = ["notes"]\n'
        '[[rules]]\ntool = "slow__*"\naction = "allow"\n'
    )
    return said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_run_asks_what_to_do_about_its_calls(shell: Shell, notes: Path) -> None:
    model = shell.model(
        "patient",
        turn("A look first.", files__read_file={"path": "orders.csv"}),
        turn("Both at once.", python__run_code={"code": ONCE}, slow__hang={}),
        turn("I got over it."),
    )
    process = shell.start("run", "Wait", "--json", "--policy", "workspace", "--model", model)
    try:
        until((shell.workspace / "mark.txt").exists)
        until(lambda: notes.exists() and "hanging" in notes.read_text())
        family = descendants(process.pid)
        assert len(family) > 3, "the sandboxes are running"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    until(lambda: not any(map(alive, family)))
    assert processes_with(str(shell.workspace)) == []

    (run,) = shell.runs()
    assert run["status"] == "running"
    before = shell.trace(run["run"])
    states = {entry["name"]: entry["status"] for entry in before if entry["kind"] == "tool"}
    cut_off = {"python__run_code": "started", "slow__hang": "started"}
    assert states == {"files__read_file": "finished", **cut_off}

    asked = shell.quick("resume", run["run"])
    assert asked.code == 3, asked.err
    assert "nobody knows whether it happened" in asked.err.replace("\n", " ")
    questions = {each["tool"]: each for each in shell.quick("approvals", "--json").lines}
    assert {each["kind"] for each in questions.values()} == {"in_doubt"}
    assert questions.keys() == cut_off.keys()
    assert shell.quick("approve", questions["python__run_code"]["id"]).code == 0
    refuse = ("--reason", "it takes too long")
    assert shell.quick("deny", questions["slow__hang"]["id"], *refuse).code == 0

    done = shell.quick("resume", run["run"], "--json")
    assert (done.code, done.last["output"]) == (0, "I got over it."), done.err
    after = shell.trace(run["run"])
    assert after[: len(before) - len(cut_off)] == before[: -len(cut_off)], "nothing was done twice"
    results = {entry["name"]: entry["result"] for entry in after if entry["kind"] == "tool"}
    assert "second time" in results["python__run_code"]["text"]
    assert results["slow__hang"]["is_error"]
    assert "unknown whether" in results["slow__hang"]["text"]
    assert "it takes too long" in results["slow__hang"]["text"]
    assert shell.quick("replay", run["run"]).out.startswith("identical")
