"""A database that is damaged, locked, full or not to be had: said in words, and nothing is lost."""

from __future__ import annotations

import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import pytest

from tests.e2e.shell import Result, Shell, bubblewrap, turn

pytestmark = pytest.mark.slow

ALONE = "[agents.assistant]\nservers = []\n"
"""No tool servers: what is tested here needs none."""

IMPATIENT = (
    "import corral.runtime.database as database, corral.cli.main as cli\n"
    "database.BUSY_SECONDS = 0.3\n"
    "cli.main()\n"
)
"""The command line, waiting less than half a minute for a lock."""


@contextmanager
def _locked(shell: Shell) -> Iterator[None]:
    """Another program holds the database's write lock meanwhile."""
    with closing(sqlite3.connect(shell.home / "corral.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def _in_a_row(shell: Shell, commands: Sequence[Sequence[str]]) -> list[Result]:
    """Run commands one after the other under one wrapper, whose mounts they share."""
    lines = [
        f"{shlex.join(command)} >{n}.out 2>{n}.err; echo $? >{n}.code"
        for n, command in enumerate(commands)
    ]
    script = "; ".join([f"cd {shlex.quote(str(shell.workspace))}", *lines])
    done = shell.program([*shell.wrapper, "sh", "-c", script])
    assert done.code == 0, done.err

    def text(name: str) -> str:
        return (shell.workspace / name).read_text()

    return [
        Result(int(text(f"{n}.code")), text(f"{n}.out"), text(f"{n}.err"))
        for n in range(len(commands))
    ]


def test_a_damaged_database_is_named_and_left_alone(shell: Shell) -> None:
    shell.configure(ALONE)
    model = shell.model("hello", turn("Hello."))
    assert shell.quick("run", "Hello", "--model", model).code == 0
    database = shell.home / "corral.db"
    whole = database.read_bytes()

    damages = (
        b"This is a text and no database.\n" * 100,
        whole[:100] + b"\xff" * (len(whole) - 100),
        whole[: len(whole) // 3],
    )
    for damaged in damages:
        for args in (("runs",), ("run", "Hello", "--model", model), ("approve", "last")):
            database.write_bytes(damaged)
            result = shell.quick(*args)
            result.says(str(database), "backup")
            assert (result.code, result.out) == (1, ""), args
            assert database.read_bytes() == damaged, "it is as it was found"
    sick = shell.quick("doctor", "--json")
    assert sick.code == 1
    (failed,) = (check for check in sick.lines if check["status"] == "fail")
    assert failed["name"] == "database"
    assert "backup" in failed["fix"]

    database.write_bytes(whole)
    assert [run["output"] for run in shell.runs()] == ["Hello."]


@pytest.mark.timeout(300)
def test_a_locked_database_is_waited_for_and_named_and_the_run_goes_on_later(shell: Shell) -> None:
    shell.configure(ALONE)
    hello = shell.model("hello", turn("Hello."))
    assert shell.quick("run", "Hello", "--model", hello).code == 0
    impatient = (sys.executable, "-c", IMPATIENT)
    with _locked(shell):
        refused = shell.program([*impatient, "run", "Hello", "--model", hello])
        refused.says("corral.db", "locked by another process", "nothing was lost")
        assert refused.code == 1
        assert [run["output"] for run in shell.runs()] == ["Hello."], "one can still look"

    slow = shell.model("slow", {"text": "word " * 20, "delay": 0.1})
    command = [*impatient, "run", "Slowly", "--model", slow]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=shell.env, cwd=shell.workspace, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(4) == "word"
        with _locked(shell):
            out, err = process.communicate(timeout=60)
    run = shell.runs()[0]
    caught = Result(process.returncode, out, err)
    caught.says("locked by another process", f"corral resume {run['run']}")
    assert (caught.code, run["status"]) == (1, "running"), "its process is gone"
    assert shell.quick("resume", run["run"]).code == 0
    assert [run["status"] for run in shell.runs()] == ["completed"] * 2


@pytest.mark.timeout(300)
def test_a_full_disk_ends_the_run_and_it_goes_on_when_there_is_room(shell: Shell) -> None:
    shell.configure(ALONE)
    shell.home.mkdir()
    filler = shlex.quote(str(shell.home / "filler"))
    small = shell.under(*bubblewrap(), "--size", "3000000", "--tmpfs", str(shell.home))
    long = shell.model("long", turn("y" * 300_000, none__at_all={}), turn("Done."))
    commands = (
        ["sh", "-c", f"head -c 2500000 /dev/zero >{filler}"],
        shell.argv("run", "Go on and on", "--model", long),
        shell.argv("runs", "--json"),
        ["sh", "-c", f"rm {filler}"],
        shell.argv("resume", "last"),
    )
    _, failed, runs, _, resumed = _in_a_row(small, commands)
    failed.says("no space left", "corral.db", "Free some disk space", "corral resume")
    assert failed.code == 1
    assert [run["status"] for run in runs.lines] == ["failed"]
    assert (resumed.code, resumed.out.splitlines()[-1]) == (0, "Done."), resumed.err


def test_a_home_that_cannot_be_had_is_named(shell: Shell) -> None:
    shell.configure(ALONE)
    hello = shell.model("hello", turn("Hello."))
    assert shell.quick("run", "Hello", "--model", hello).code == 0
    (shell.workspace / "file").write_text("not a folder")
    for home in ("file", "file/in/it"):
        elsewhere = shell.under(CORRAL_HOME=str(shell.workspace / home))
        for args in (("runs",), ("run", "Hello", "--model", hello)):
            result = elsewhere.quick(*args)
            result.says(str(shell.workspace / home), "CORRAL_HOME")
            assert (result.code, result.out) == (1, "")

    read_only = shell.under(*bubblewrap(), "--ro-bind", str(shell.home), str(shell.home))
    refused = read_only.corral("run", "Hello", "--model", hello)
    refused.says(str(shell.home), "CORRAL_HOME")
    assert refused.code == 1
    assert [run["output"] for run in shell.runs()] == ["Hello."]
