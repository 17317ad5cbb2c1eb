"""gc, delete, pin and unpin on the command line."""

from __future__ import annotations

import subprocess
import sys

import pexpect
import pytest
from prompt_toolkit.history import FileHistory

from tests.cli.place import Place
from tests.cli.test_inspection import HEAVY


def talk(place: Place, prompt: str = "Hi") -> str:
    """The id of a run that has just completed."""
    done = place.corral("run", prompt, "--model", place.model("hello"), "--json")
    assert done.code == 0, done.err
    return run_ids(place)[0]


def run_ids(place: Place) -> list[str]:
    return [line["run"] for line in place.corral("runs", "--json").lines]


def thread_of(place: Place, run: str) -> str:
    return next(
        str(line["thread"]) for line in place.corral("runs", "--json").lines if line["run"] == run
    )


def test_gc_says_what_goes_and_what_stays(place: Place) -> None:
    first = talk(place)
    thread = thread_of(place, first)
    again = place.corral("run", "More", "--thread", thread, "--model", place.model("again"))
    assert again.code == 0, again.err
    nothing = place.corral("gc")
    assert (nothing.code, nothing.err) == (0, "")
    assert "nothing to remove" in nothing.out
    assert " before, " in nothing.out

    would = place.corral("gc", "--keep", "1", "--dry-run")
    assert "1 run would be removed" in would.out
    assert len(run_ids(place)) == 2
    assert place.corral("pin", first[:6]).code == 0
    assert "1 pinned" in place.corral("gc", "--keep", "1").out
    assert place.corral("unpin", first).code == 0
    (collected,) = place.corral("gc", "--keep", "1", "--thread", thread, "--json").lines
    assert (collected["runs"], collected["threads"], collected["dry_run"]) == ([first], [], False)
    assert first not in run_ids(place)
    assert place.corral("trace", first).code == 2
    last = place.corral("run", "Once more", "--thread", thread, "--model", place.model("hello"))
    assert (last.code, last.out.strip()) == (0, "Hello there, friend.")


def test_gc_takes_its_limits_from_the_users_settings_and_not_from_the_project(
    place: Place,
) -> None:
    talk(place)
    config = place.scripts / "mine.toml"
    config.write_text('[retention]\nolder_than = "0h"\n')
    (place.workspace / "corral.toml").write_text('[retention]\nolder_than = "0h"\n')
    refused = place.corral("gc")
    assert (refused.code, "retention" in refused.err) == (2, True)
    (place.workspace / "corral.toml").unlink()
    assert "nothing" in place.corral("gc").out
    assert "1 run, 1 whole thread" in place.corral("--config", str(config), "gc").out
    assert run_ids(place) == []


def test_what_gc_cannot_understand_is_named(place: Place) -> None:
    talk(place)
    for args, word in (
        (("--older-than", "soon"), "30d"),
        (("--keep", "0"), "keep"),
        (("--keep", "1", "--thread", "t-none"), "t-none"),
    ):
        refused = place.corral("gc", *args)
        assert (refused.code, refused.out) == (2, ""), args
        assert word in refused.err
    config = place.scripts / "mine.toml"
    config.write_text('[retention]\nolder_then = "30d"\n')
    wrong = place.corral("--config", str(config), "gc")
    assert (wrong.code, "older_than" in wrong.err) == (2, True)
    assert len(run_ids(place)) == 1


def test_deleting_needs_a_yes(place: Place) -> None:
    run = talk(place, "The secret is plover.")
    thread = thread_of(place, run)
    typed = ["first", "The secret is plover.", "last\nof two lines"]
    for text in typed:
        FileHistory(str(place.home / "history")).store_string(text)
    refused = place.corral("delete", thread)
    assert (refused.code, "--yes" in refused.err) == (2, True)
    unknown = place.corral("delete", "t-none", "--yes")
    assert (unknown.code, "t-none" in unknown.err) == (2, True)
    assert run_ids(place) == [run]
    (deleted,) = place.corral("delete", thread, "--yes", "--json").lines
    assert (deleted["threads"], deleted["runs"], deleted["note"]) == ([thread], [run], None)
    assert run_ids(place) == []
    history = FileHistory(str(place.home / "history"))
    assert list(history.load_history_strings()) == ["last\nof two lines", "first"]
    files = [path for path in place.home.rglob("*") if path.is_file()]
    assert not any(b"plover" in path.read_bytes() for path in files)


@pytest.mark.slow
def test_on_a_terminal_one_is_asked_before_a_thread_is_deleted(place: Place) -> None:
    run = talk(place, "Say \x1b[31mhello.")
    thread = thread_of(place, run)
    for answer, code, left in (("n", 130, [run]), ("y", 0, [])):
        argv = place.command("delete", thread)
        child = pexpect.spawn(argv[0], argv[1:], env=place.env, encoding="utf-8", timeout=60)
        child.expect_exact("1 thread, 1 run")
        child.expect_exact(r"Say \x1b[31mhello.")
        child.expect_exact("Delete? [y/N]")
        child.sendline(answer)
        child.expect(pexpect.EOF)
        child.close()
        assert (child.exitstatus, run_ids(place)) == (code, left), child.before


@pytest.mark.slow
def test_they_start_without_the_graph_engine(place: Place) -> None:
    run = talk(place)
    thread = thread_of(place, run)
    commands = [["pin", run], ["unpin", run], ["gc", "--keep", "1"], ["delete", thread, "--yes"]]
    code = (
        "import sys; from corral.cli.main import invoke; "
        f"assert [invoke(command) for command in {commands!r}] == [0] * 4; "
        f"sys.exit(int(bool(sys.modules.keys() & {set(HEAVY)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=place.env, check=False)
    assert done.returncode == 0
