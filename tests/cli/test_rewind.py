"""Taking a thread back from the shell and in the REPL, as a person does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pexpect
import pytest

import corral
from corral.runtime.snapshots import restore
from tests.cli.place import Chat, Place
from tests.cli.test_inspection import HEAVY
from tests.runtime.agents import scripted, turn
from tests.runtime.workshop import doing, settings

EVIL = "\x1b[2J\rgone"


def runs(place: Place, *agents: corral.Agent) -> str:
    """A thread with a run of each agent, made in this process; every question is answered yes."""
    where = settings(place.home, place.workspace)

    async def approver(_approval: corral.Approval) -> corral.Approved:
        return corral.Approved()

    async def work() -> str:
        thread: str | None = None
        async with corral.open(where) as c:
            for number, agent in enumerate(agents, start=1):
                options = corral.RunOptions(agent=agent, thread=thread, approver=approver)
                result = await c.run(f"prompt {number}", options)
                assert result.status == "completed", result.error
                thread = result.thread
        return str(thread)

    return asyncio.run(work())


def remembering(fact: str) -> corral.Agent:
    call = {"name": "memory__remember", "args": {"fact": fact}}
    model = corral.ScriptedModel([{"tool_calls": [call]}, {"text": "noted"}])
    return corral.Agent(servers=("memory",), chat_model=model, facts=0)


@pytest.fixture
def thread(place: Place) -> str:
    """A thread of three runs: two write files, the third remembers something."""
    workspace = place.workspace

    def change() -> None:
        (workspace / "notes.txt").write_text("two")
        (workspace / "sub").mkdir()
        (workspace / "sub" / "new.txt").write_text("new")

    first = doing(lambda: (workspace / "notes.txt").write_text("one\ntwo\n"))
    return runs(place, first, doing(change), remembering("Ada likes tea."))


def files(place: Place) -> dict[str, str]:
    return {
        str(path.relative_to(place.workspace)): path.read_text()
        for path in place.workspace.rglob("*")
        if path.is_file()
    }


def test_a_thread_goes_back_and_comes_forward(place: Place, thread: str) -> None:
    before = files(place)
    assert before["notes.txt"] == "two"

    listed = place.corral("rewind", thread)
    assert listed.code == 0
    for shown in ("(the beginning)", "prompt 1", "prompt 2", "prompt 3"):
        assert shown in listed.out

    planned = place.corral("rewind", thread, "--to", "1", "--dry-run")
    assert planned.code == 0
    for shown in (
        "take back 2 runs",
        "~ notes.txt  changed, 8 bytes",
        "- sub/new.txt  removed, 3 bytes",
        "- Ada likes tea.  forgotten",
    ):
        assert shown in planned.out
    assert files(place) == before

    refused = place.corral("rewind", thread, "--to", "1")
    assert refused.code == 2
    assert "--dry-run" in refused.err
    assert "--yes" in refused.err
    assert files(place) == before

    done = place.corral("rewind", thread, "--to", "1", "--yes")
    assert done.code == 0
    assert done.out == planned.out
    assert f"corral rewind {thread} --undo" in done.err
    assert files(place) == {"notes.txt": "one\ntwo\n", "orders.csv": before["orders.csv"]}
    assert place.corral("memory", "list", "--json").lines == []
    assert "completed, rewound" in place.corral("runs").out
    marks = [line["rewound"] for line in place.corral("runs", "--json").lines]
    assert marks == [True, True, False]

    undone = place.corral("rewind", thread, "--undo", "--yes", "--json")
    assert undone.code == 0
    (report,) = undone.lines
    assert (report["action"], report["to"]) == ("undo", 3)
    assert files(place) == before
    (fact,) = place.corral("memory", "list", "--json").lines
    assert fact["text"] == "Ada likes tea."


def test_the_files_can_be_left_as_they_are(place: Place, thread: str) -> None:
    before = files(place)
    done = place.corral("rewind", thread, "--to", "0", "--keep-files", "--yes", "--json")
    assert done.lines[0]["notes"] == ["The files stay as they are."]
    assert files(place) == before
    again = place.corral("run", "x", "--json", "--thread", thread, "--model", place.model("hello"))
    assert again.lines[-1]["status"] == "completed"
    refused = place.corral("rewind", thread, "--undo", "--yes")
    assert refused.code == 2
    assert "has gone on with the run" in refused.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("t-none", "--to", "1"), "There is no thread 't-none'"),
        (("THREAD", "--to", "9"), "has no run '9'"),
        (("THREAD", "--to", "1"), "nothing comes after it"),
        (("THREAD", "--undo"), "no rewind that could be undone"),
        (("THREAD", "--undo", "--to", "1"), "--undo takes no other choice"),
    ],
)
def test_what_cannot_be_is_said(place: Place, args: tuple[str, ...], said: str) -> None:
    thread = runs(place, scripted([turn("Hello.")]))
    words = [thread if word == "THREAD" else word for word in args]
    refused = place.corral("rewind", *words, "--yes")
    assert refused.code == 2
    assert said in refused.err
    assert refused.err.count("\n") >= 2  # the error, and what to do next


def test_a_file_that_cannot_be_put_back_is_named(
    place: Place, thread: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = restore.Restorer.remove

    def typing(self: restore.Restorer, *args: Any) -> dict[str, str]:
        (place.workspace / "notes.txt").write_text("typed\x1b[2J")
        return remove(self, *args)

    monkeypatch.setattr(restore.Restorer, "remove", typing)
    done = place.corral("rewind", thread, "--to", "1", "--yes")
    assert done.code == 1
    assert "notes.txt: it was changed meanwhile" in done.err
    assert (place.workspace / "notes.txt").read_text() == "typed\x1b[2J"


def test_names_of_files_cannot_write_on_the_terminal(place: Place) -> None:
    thread = runs(place, doing(lambda: (place.workspace / EVIL).write_text("x")))
    planned = place.corral("rewind", thread, "--to", "0", "--dry-run")
    assert "gone" in planned.out
    assert "\x1b" not in planned.out
    assert "\r" not in planned.out


@pytest.mark.slow
def test_it_starts_without_the_graph_engine(place: Place, thread: str) -> None:
    code = (
        "import sys; from corral.cli.main import invoke; "
        f"assert invoke(['rewind', {thread!r}, '--to', '1', '--yes']) == 0; "
        f"sys.exit(int(bool(sys.modules.keys() & {set(HEAVY)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=place.env, check=False)
    assert done.returncode == 0


def test_a_person_is_asked(place: Place, thread: str) -> None:
    before = files(place)
    argv = place.command("rewind", thread, "--to", "1")
    child = pexpect.spawn(argv[0], argv[1:], env=place.env, encoding="utf-8", timeout=60)
    child.expect_exact("sub/new.txt")
    child.expect_exact("Go on? [y/N]:")
    child.sendline("n")
    child.expect_exact("Nothing was changed.")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert files(place) == before


@pytest.mark.slow
def test_in_the_repl(place: Place, thread: str) -> None:
    before = files(place)
    chat = Chat(place, "--thread", thread, "--model", place.model("hello"))
    chat.see("prompt 3", "»")
    chat.type("/rewind 1")
    chat.see("take back 2 runs", "sub/new.txt", "Go on? [y/n] »")
    chat.type("y")
    chat.see("stands after run 1", "/undo brings it back", "»")
    assert "sub/new.txt" not in files(place)
    chat.type("/undo")
    chat.see("bring back 2 runs", "Go on? [y/n] »")
    chat.type("y")
    chat.see("stands after run 3", "»")
    chat.leave()
    assert files(place) == before
