"""The main job: files and python in the sandbox, a question, an answer, a trace and a replay."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

import corral.mcp_servers
from tests.e2e.shell import Shell, bubblewrap, processes_with, turn

RESULT = ["type", "run", "thread", "status", "output", "usage", "steps"]
USAGE = {"input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost_usd"}
TRACE = [
    *("seq", "kind", "name", "status", "request", "result", "started_at", "duration_ms"),
    *("input_tokens", "output_tokens", "cost_usd", "path", "run", "attempts", "ended"),
    *("cached_tokens", "cache_write_tokens", "reasoning_tokens", "first_token_ms"),
    *("generation_ms", "answered_by"),
]
SUM = (
    "import csv\n"
    "rows = list(csv.DictReader(open('orders.csv')))\n"
    "sum(int(row['total']) for row in rows)\n"
)
CLOSED = (
    "import sys\n"
    "from corral.cli.main import main\n"
    "def watch(event, args):\n"
    "    if event in ('subprocess.Popen', 'os.exec', 'os.posix_spawn', 'os.fork', 'os.system',\n"
    "                 'os.forkpty', 'socket.connect', 'socket.sendto', 'socket.getaddrinfo'):\n"
    "        print('STARTED', event, args, file=sys.stderr)\n"
    "        raise PermissionError(event)\n"
    "sys.addaudithook(watch)\n"
    "main()\n"
)
"""The command line, which may start no process and connect to nothing."""


@pytest.fixture
def model(shell: Shell) -> str:
    """A model that reads, computes, writes and answers."""
    written = {"path": "reports/total.txt", "content": "42\n"}
    return shell.model(
        "bookkeeper",
        turn("I look at the orders.", files__read_file={"path": "orders.csv"}),
        turn("Now I add them up.", python__run_code={"code": SUM}),
        turn("And I write it down.", files__write_file=written),
        turn("The orders come to 42."),
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_main_job(shell: Shell, model: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rules]]\ntool = "python__run_code"\naction = "allow"\n')
    paused = _paused(shell, "--model", model, "--policy", str(policy))
    _answered_and_done(shell, paused)
    run = paused["run"]
    _traced(shell, run)

    # Nothing that a run needs is left: no script, no policy, no folder, no server, no network.
    effects = len(shell.trace(run))
    policy.unlink()
    Path(model.removeprefix("scripted:")).unlink()
    shutil.rmtree(shell.workspace / "reports")
    (shell.workspace / "orders.csv").unlink()
    (servers,) = corral.mcp_servers.__path__
    alone = shell.under(*bubblewrap(), "--unshare-net", "--tmpfs", servers, PATH="/nowhere")
    replay = [*alone.wrapper, sys.executable, "-c", CLOSED, "replay", run, "--json"]
    replayed = alone.program(replay)
    assert (replayed.code, replayed.err) == (0, "")
    assert replayed.last["status"] == "identical"
    assert replayed.last["executed"] == 0
    assert replayed.last["effects"] == replayed.last["reused"] == effects
    _diverged(shell, run)


def _paused(shell: Shell, *options: str) -> dict[str, Any]:
    """Run until the question; the result."""
    paused = shell.corral("run", "Add up", "--json", *options)
    assert (paused.code, paused.err) == (3, "")
    kinds = [event["type"] for event in paused.lines]
    assert (kinds[0], kinds[-2:]) == ("run_started", ["approval_requested", "result"])
    told = paused.last
    assert list(told)[: len(RESULT)] == RESULT
    assert (told["type"], told["status"], told["steps"]) == ("result", "paused", 3)
    assert set(told["usage"]) == USAGE
    assert [question["tool"] for question in told["approvals"]] == ["files__write_file"]
    assert not (shell.workspace / "reports").exists()
    return told


def _answered_and_done(shell: Shell, told: dict[str, Any]) -> None:
    """Answer from another process, and go on in a third."""
    run, (question,) = told["run"], told["approvals"]
    waiting = shell.quick("resume", run, "--json")
    assert (waiting.code, waiting.last["steps"]) == (3, 3), "unanswered, it waits as it was"
    approved = shell.corral("approve", question["id"])
    assert (approved.code, approved.out) == (0, "")
    assert f"corral resume {run}" in approved.err
    assert not (shell.workspace / "reports").exists(), "an answer does nothing by itself"

    done = shell.corral("resume", run, "--json")
    assert (done.code, done.err) == (0, "")
    assert list(done.last)[: len(RESULT)] == RESULT
    assert (done.last["status"], done.last["steps"]) == ("completed", 4)
    assert done.last["output"] == "The orders come to 42."
    assert done.last["usage"]["output_tokens"] > told["usage"]["output_tokens"]
    assert (shell.workspace / "reports" / "total.txt").read_text() == "42\n"
    assert processes_with(str(shell.workspace)) == []


def _traced(shell: Shell, run: str) -> None:
    """The journal tells all of it."""
    entries = shell.trace(run)
    assert all(list(entry) == TRACE for entry in entries)
    assert all(entry["status"] == "finished" for entry in entries)
    calls = {entry["name"]: entry["result"] for entry in entries if entry["kind"] == "tool"}
    assert list(calls) == ["files__read_file", "python__run_code", "files__write_file"]
    assert "2,32" in calls["files__read_file"]["text"]
    assert "42" in calls["python__run_code"]["text"]
    tree = shell.quick("trace", run).out
    for shown in ("step 4", "reports/total.txt", "approved", "come to 42"):
        assert shown in tree


def _diverged(shell: Shell, run: str) -> None:
    """A journal that was tampered with is told from what the graph asks for."""
    with sqlite3.connect(shell.home / "corral.db") as database:
        changed = database.execute(
            "UPDATE effects SET result = replace(result, 'Now I add', 'Never I add') "
            "WHERE kind = 'model' AND result LIKE '%Now I add%'"
        )
        assert changed.rowcount == 1
    diverged = shell.quick("replay", run)
    assert diverged.code == 5
    for shown in ("first divergence: ", "Now I add them up.", "Never I add them up."):
        assert shown in diverged.out


def test_how_a_run_can_end(shell: Shell) -> None:
    circle = [turn("Once more.", files__list_directory={"path": "."})] * 5
    go = ("run", "Go", "--json", "--model", shell.model("stuck", *circle))
    stuck = shell.quick(*go)
    assert (stuck.code, stuck.last["status"]) == (3, "paused")
    (question,) = shell.quick("approvals", "--json").lines
    assert question["kind"] == "loop", question
    stopped = shell.under(CORRAL_LOOPS__ASK_AFTER="2", CORRAL_LOOPS__STOP_AFTER="2").quick(*go)
    assert (stopped.code, stopped.last["status"]) == (4, "stopped")
    assert "files__list_directory" in stopped.last["error"]

    shell.configure("[agents.assistant]\nservers = []\n")
    long = shell.model("long", *[turn("And on.", none__such={})] * 3, turn("There."))
    capped = shell.under(CORRAL_LIMITS__MAX_STEPS="2").quick("run", "Go", "--model", long)
    capped.says("step limit is 2", "--max-steps")
    assert capped.code == 4
    (run, *_) = shell.runs()
    assert (run["status"], run["steps"]) == ("stopped", 2)
    tight = shell.under(CORRAL_LIMITS__MAX_TOKENS="100").quick("run", "Go", "--model", long)
    tight.says("(max_tokens) is reached", "--budget")
    assert tight.code == 4
    done = shell.quick("resume", run["run"], "--max-steps", "4")
    assert (done.code, done.out.splitlines()[-1]) == (0, "There.")

    broken = shell.model("broken", {"text": "I", "error": "The model fell over."})
    failed = shell.quick("run", "Go", "--json", "--model", broken)
    assert (failed.code, failed.last["status"]) == (1, "failed")
    assert "The model fell over." in failed.last["error"]
    failed = shell.quick("resume", failed.last["run"])
    failed.says("The model fell over.", "corral trace", "corral resume")
    assert failed.code == 1
    left = shell.quick("run", "Go", "--model", shell.model("left", turn("One."), turn("Two.")))
    left.says("left over", "'Two.'")
    assert left.code == 1
