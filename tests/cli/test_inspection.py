"""Reading what happened, and answering for it: runs, threads, trace, replay, cancel, memory."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys

import pytest

from tests.cli.place import Place

HEAVY = (
    "langgraph",
    "langchain",
    "langchain_core",
    "langchain_openai",
    "langchain_anthropic",
    "openai",
    "anthropic",
    "mcp",
    "instructor",
    "llama_cpp",
)

TRACE_KEYS = [
    "seq",
    "kind",
    "name",
    "status",
    "request",
    "result",
    "started_at",
    "duration_ms",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "path",
    "run",
    "attempts",
    "ended",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "first_token_ms",
    "generation_ms",
    "answered_by",
]


def test_a_run_can_be_listed_traced_and_replayed(place: Place) -> None:
    done = place.corral("run", "Look into orders", "--json", "--model", place.model("read"))
    run = done.lines[-1]["run"]

    (listed,) = place.corral("runs", "--json").lines
    assert listed["run"] == run
    assert listed["status"] == "completed"
    table = place.corral("runs")
    assert "Look into orders" in table.out
    assert "\x1b" not in table.out

    entries = place.corral("trace", run[:6], "--json").lines
    assert all(list(entry) == TRACE_KEYS for entry in entries)
    assert [entry["seq"] for entry in entries] == sorted(entry["seq"] for entry in entries)
    calls = [entry for entry in entries if entry["kind"] == "tool"]
    assert [entry["name"] for entry in calls] == ["files__read_file"]
    tree = place.corral("trace", run).out
    for shown in (
        "step 1",
        "step 2",
        'files__read_file(path="orders.csv")',
        "critical path",
        "There are two orders.",
    ):
        assert shown in tree

    (report,) = place.corral("replay", run, "--json").lines
    assert report["status"] == "identical"
    assert report["effects"] == report["reused"] == len(entries)
    assert report["executed"] == 0
    assert "identical" in place.corral("replay", run).out


def test_a_changed_journal_is_a_divergence(place: Place) -> None:
    done = place.corral("run", "Look", "--json", "--model", place.model("read"))
    run = done.lines[-1]["run"]
    with sqlite3.connect(place.home / "corral.db") as database:
        changed = database.execute(
            "update effects set request = replace(request, 'orders.csv', 'others.csv'), "
            "digest = 'changed' where kind = 'tool' and run_id = ?",
            (run,),
        )
        assert changed.rowcount == 1
    report = place.corral("replay", run, "--json")
    assert report.code == 5
    assert report.lines[0]["status"] == "diverged"
    assert report.lines[0]["divergence"]
    assert "first divergence" in place.corral("replay", run).out


def test_a_run_that_waits_can_be_given_up(place: Place) -> None:
    place.corral("run", "Write", "--model", place.model("write"))
    (run,) = place.corral("runs", "--json").lines
    assert run["status"] == "paused"
    cancelled = place.corral("cancel", run["run"])
    assert cancelled.code == 0, cancelled.err
    assert place.corral("runs", "--json").lines[0]["status"] == "stopped"
    assert place.corral("cancel", run["run"]).code == 2


@pytest.mark.parametrize(
    "args",
    [
        ("trace", "r-none"),
        ("replay", "r-none"),
        ("resume", "r-none"),
        ("cancel", "r-none"),
        ("approve", "a-none"),
        ("deny", "a-none", "--reason", "x"),
        ("memory", "forget", "m"),
    ],
)
def test_what_is_not_there_is_said(place: Place, args: tuple[str, ...]) -> None:
    result = place.corral(*args)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert len(result.err.splitlines()) >= 2, "a hint says what to do next"


def test_a_new_place_says_how_to_begin(new_place: Place) -> None:
    for command in (("runs",), ("threads",), ("approvals",), ("memory", "list")):
        result = new_place.corral(*command)
        assert (result.code, result.out) == (0, "")
        assert result.err
        assert new_place.corral(*command, "--json").out == ""


@pytest.mark.slow
def test_reading_imports_no_engine_and_no_model_library(place: Place) -> None:
    place.corral("run", "Write", "--model", place.model("write"))
    (approval,) = place.corral("approvals", "--json").lines
    commands = [
        ["--help"],
        ["--version"],
        ["runs"],
        ["trace", approval["run"]],
        ["approvals"],
        ["approve", approval["id"]],
        ["deny", approval["id"], "--reason", "no"],
    ]
    code = (
        "import json, sys\n"
        "from corral.cli.main import invoke\n"
        "codes = [invoke(command) for command in json.loads(sys.argv[1])]\n"
        "heavy = json.loads(sys.argv[2])\n"
        "loaded = [name for name in heavy if name in sys.modules]\n"
        "print(json.dumps({'codes': codes, 'loaded': loaded}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands), json.dumps(HEAVY)],
        env=place.env,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"codes": [0, 0, 0, 0, 0, 0, 2], "loaded": []}


def test_the_first_prompt_waits_for_neither_a_database_nor_a_graph(place: Place) -> None:
    code = (
        "import sys\n"
        "import corral.cli.chat.session, corral.runtime.config\n"
        "heavy = ('sqlalchemy', 'alembic', 'langgraph', 'langchain_core', 'mcp', 'tree_sitter')\n"
        "heavy += ('corral.tools.builtin', 'corral.sandbox.network.proxy', 'corral.sandbox.host')\n"
        "sys.exit(', '.join(name for name in heavy if name in sys.modules) or None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=place.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_help_imports_neither_rich_nor_a_database(place: Place) -> None:
    code = (
        "import sys\n"
        "from corral.cli.main import invoke\n"
        "invoke(['--help'])\n"
        "light = ('rich', 'prompt_toolkit', 'pydantic', 'sqlalchemy', 'asyncio')\n"
        "sys.exit(', '.join(name for name in light if name in sys.modules) or None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=place.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for command in (
        "chat",
        "run",
        "resume",
        "runs",
        "trace",
        "replay",
        "fork",
        "diff",
        "approvals",
        "approve",
        "deny",
        "memory",
        "mcp",
        "eval",
        "doctor",
    ):
        assert f"\n  {command} " in done.stdout
