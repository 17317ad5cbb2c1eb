"""Tool servers that hang, die, flood or lie, and results too big to keep: the run goes on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tests.e2e.shell import HOSTILE, Shell, processes_with, turn

MiB = 1024 * 1024


def _serve(shell: Shell, servers: Mapping[str, str], *, mode: str = "plain") -> None:
    """Configure hostile servers, each with some lines of its own; their tools are allowed."""
    folder = shell.workspace / "servers"
    folder.mkdir()
    script = shutil.copy(HOSTILE, folder)
    lines = []
    for name in servers:
        lines += ["[[rules]]", f'tool = "{name}__*"', 'action = "allow"']
    for name, more in servers.items():
        started = "silent" if name == "silent" else mode
        lines += [
            f"[mcp.{name}]",
            f'command = "{sys.executable}"',
            f'args = ["-S", "-E", "{script}", "{started}"]',
            'grants = ["servers"]',
            more,
        ]
    shell.own("\n".join([*lines, "[mcp.gone]", 'command = "no-such-server"']))


def _results(shell: Shell, run: str) -> dict[str, dict[str, Any]]:
    """What the model read for each tool, from the trace."""
    return {entry["name"]: entry["result"] for entry in shell.trace(run, "tool")}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_outlives_its_servers(shell: Shell) -> None:
    servers = {
        "silent": "startup_timeout = 1.5",
        "mute": "timeout = 1.5",
        "mortal": "",
        "loud": "",
        "liar": "",
    }
    _serve(shell, servers)
    model = shell.model(
        "hopeful",
        turn(
            "All at once.",
            mute__hang={},
            mortal__die={},
            loud__flood={},
            liar__liar={},
            liar__forgetful={},
            liar__malformed={},
            silent__echo={"text": "x"},
            gone__echo={"text": "x"},
        ),
        turn("Again.", mortal__echo={"text": "back"}, loud__echo={"text": "calm"}, liar__honest={}),
        turn("I did what I could."),
    )
    done = shell.corral("run", "Try them", "--json", "--model", model)
    assert (done.code, done.err) == (0, "")
    assert done.last["output"] == "I did what I could."
    notices = " ".join(e["text"] for e in done.lines if e["type"] == "notice")
    assert "silent did not start within 1.5 s" in notices
    assert "there is no program 'no-such-server'" in notices

    results = _results(shell, done.last["run"])
    expected = {
        "mute__hang": "did not answer hang within 1.5 s",
        "mortal__die": "exited with code 3",
        "loud__flood": "more than 16 MiB",
        "liar__liar": "breaks its own output schema",
        "liar__forgetful": "lacks the structured content",
        "liar__malformed": "liar",
        "silent__echo": "There is no tool 'silent__echo'",
        "gone__echo": "There is no tool 'gone__echo'",
    }
    for name, words in expected.items():
        assert results[name]["is_error"], name
        assert words in results[name]["text"], results[name]
    assert "the database is gone" in results["mortal__die"]["text"], "what it said last"
    assert "I added them." in results["liar__liar"]["text"], "what it claimed"
    good = ("mortal__echo", "loud__echo", "liar__honest")
    assert [results[name]["is_error"] for name in good] == [False] * 3
    assert [results[name]["text"] for name in good[:2]] == ["back", "calm"]
    assert results["liar__honest"]["structured"] == {"sum": 3}
    assert processes_with(str(shell.workspace)) == []
    assert shell.quick("replay", "last").out.startswith("identical")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_megabytes_are_cut_on_their_way(shell: Shell) -> None:
    _serve(shell, {"big": ""})
    (shell.workspace / "huge.txt").write_text("All work and no play.\n" * (100 * MiB // 22))
    model = shell.model(
        "greedy",
        turn(
            "Give me all.",
            big__big={"size": 100 * MiB},
            python__run_code={"code": "print('x' * 100 * 2**20)"},
            files__read_file={"path": "huge.txt"},
        ),
        turn("A little less.", big__big={"size": 10 * MiB}),
        turn(
            "Wrong, all of it.",
            big__echo={"text": 3},
            files__read_file={"file": "orders.csv"},
            python__run_cod={"code": "1"},
        ),
        turn("It was too much."),
    )
    done = shell.corral("run", "All", "--json", "--policy", "workspace", "--model", model)
    assert (done.code, done.last["output"]) == (0, "It was too much."), done.err
    assert done.peak < 600, "MiB at most: twice the longest message, and what Corral needs itself"
    assert len(done.out) < 2 * MiB

    calls = shell.trace(done.last["run"], "tool")
    first, less = (call["result"] for call in calls if call["name"] == "big__big")
    (printed,) = (call["result"] for call in calls if call["name"] == "python__run_code")
    read = next(call["result"] for call in calls if call["name"] == "files__read_file")
    assert "more than 16 MiB" in first["text"]
    assert "left out" in printed["text"]
    assert "All work and no play." in read["text"]
    assert "characters left out" in less["text"]
    assert less["dropped"] > 9 * MiB
    for call in calls:
        assert len(call["result"]["text"]) <= 400_000, "max_tool_output"
    journal = sum(path.stat().st_size for path in shell.home.glob("corral.db*"))
    assert journal < 2 * MiB

    wrong = {
        "big__echo": ("do not fit big__echo", "text", "string"),
        "files__read_file": ("do not fit files__read_file", "path", "file"),
        "python__run_cod": ("There is no tool 'python__run_cod'", "python__run_code"),
    }
    for call in calls[-len(wrong) :]:
        assert call["result"]["is_error"]
        assert all(word in call["result"]["text"] for word in wrong.pop(call["name"]))
    assert wrong == {}
