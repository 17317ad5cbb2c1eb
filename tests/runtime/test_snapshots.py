"""What a workspace's snapshots hold, seen through what a rewind puts back and leaves alone."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

import corral
from corral.errors import ConfigError, ConflictError, StorageError, UsageError
from corral.runtime.snapshots import restore, scan, store
from corral.runtime.snapshots.trees import digest_of
from tests.runtime.agents import Ledger, scripted, turn
from tests.runtime.workshop import Deed, doing, listing, run, settings, untouched

MB = 10**6


@asynccontextmanager
async def opened(own_home: Path, workspace: Path, **more: Any) -> AsyncIterator[corral.Corral]:
    async with corral.open(settings(own_home, workspace, **more)) as c:
        yield c


def rows(home: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(home / "corral.db") as database:
        return database.execute(query).fetchall()


def fill(workspace: Path) -> None:
    """One of everything that is kept."""
    (workspace / "text.txt").write_text("one\n")
    (workspace / "same.txt").write_text("stays\n")
    (workspace / "gone.bin").write_bytes(bytes(range(256)) * 40)
    (workspace / "script.sh").write_text("#!/bin/sh\n")
    (workspace / "script.sh").chmod(0o755)
    (workspace / "becomes-folder").write_text("a file\n")
    (workspace / "link-to-file").symlink_to("text.txt")
    (workspace / "dangling").symlink_to("/nowhere/at/all")
    (workspace / "empty").mkdir(mode=0o750)
    (workspace / "deep" / "er").mkdir(parents=True)
    (workspace / "deep" / "er" / "inner.txt").write_text("inner\n")
    (workspace / "becomes-file").mkdir()
    (workspace / "becomes-file" / "x").write_text("x\n")
    (Path(os.fsdecode(os.fsencode(workspace) + b"/caf\xe9\xff"))).write_text("latin\n")


def wreck(workspace: Path) -> None:
    """A change of every kind."""
    (workspace / "text.txt").write_text("two\n")
    (workspace / "gone.bin").unlink()
    (workspace / "script.sh").chmod(0o600)
    (workspace / "becomes-folder").unlink()
    (workspace / "becomes-folder" / "in").mkdir(parents=True)
    (workspace / "becomes-folder" / "in" / "new.txt").write_text("new\n")
    (workspace / "link-to-file").unlink()
    (workspace / "link-to-file").write_text("no link any more\n")
    (workspace / "dangling").unlink()
    (workspace / "dangling").symlink_to("elsewhere")
    (workspace / "empty").chmod(0o700)
    shutil.rmtree(workspace / "deep")
    shutil.rmtree(workspace / "becomes-file")
    (workspace / "becomes-file").write_text("a file now\n")
    (Path(os.fsdecode(os.fsencode(workspace) + b"/caf\xe9\xff"))).write_text("changed\n")
    (workspace / "new" / "empty").mkdir(parents=True)
    (workspace / "new" / "link").symlink_to("..")


async def test_everything_goes_back_and_comes_forward_again(
    own_home: Path, workspace: Path
) -> None:
    fill(workspace)
    before, same = listing(workspace), untouched(workspace / "same.txt")
    async with opened(own_home, workspace) as c:
        thread = (await run(c, doing(lambda: wreck(workspace)))).thread
        after = listing(workspace)
        planned = await c.rewind(thread, 0, dry_run=True)
        assert listing(workspace) == after

        report = await c.rewind(thread, 0)
        assert report.files == planned.files
        assert report.failed == ()
        assert listing(workspace) == before

        undone = await c.undo_rewind(thread)
        assert undone.failed == ()
        assert listing(workspace) == after
    assert untouched(workspace / "same.txt") == same
    changes = {file.path: file.change for file in report.files}
    assert changes["text.txt"] == changes["script.sh"] == changes["becomes-folder"] == "changed"
    assert changes["gone.bin"] == changes["deep/er/inner.txt"] == "created"
    assert changes["new/link"] == changes["becomes-folder/in/new.txt"] == "removed"
    assert "same.txt" not in changes
    assert not list(workspace.glob(".corral*"))


async def test_a_run_that_only_looks_keeps_nothing(own_home: Path, workspace: Path) -> None:
    ledger = Ledger()
    async with opened(own_home, workspace) as c:
        looks = scripted([turn("", balance={}), turn("done")], *ledger.tools())
        await run(c, looks)
        assert rows(own_home, "select count(*) from snapshots") == [(0,)]
        pays = scripted([turn("", pay={"amount": 1}), turn("done")], *ledger.tools())
        await run(c, pays)
    assert rows(own_home, "select count(*) from snapshots") == [(1,)]


async def test_only_what_changed_is_read_and_stored_again(
    own_home: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_RACY", -(10**15))  # files of this moment count as settled
    read: list[str] = []
    whole = scan.content_of

    def counted(folder: int, name: str, limit: int) -> Any:
        read.append(name)
        return whole(folder, name, limit)

    monkeypatch.setattr(scan, "content_of", counted)
    for folder in ("a", "b/c"):
        (workspace / folder).mkdir(parents=True)
        for number in range(5):
            (workspace / folder / f"{number}.txt").write_text(f"{folder} {number}\n")
    async with opened(own_home, workspace) as c:
        first = await run(c, doing(lambda: None))
        assert len(read) == 10
        stored = rows(own_home, "select digest from blobs")
        read.clear()
        await run(c, doing(lambda: (workspace / "a/1.txt").write_text("new\n")))
        assert read == []
        assert rows(own_home, "select digest from blobs") == stored
        await run(c, doing(lambda: None), thread=first.thread)
        assert read == ["1.txt"]
    # The file, its folder, and the workspace's own folder.
    assert len(rows(own_home, "select digest from blobs")) == len(stored) + 3


async def test_a_change_that_hides_behind_its_old_time_is_noticed(
    own_home: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_RACY", -(10**15))
    sly = workspace / "sly.txt"
    sly.write_text("one")

    def change() -> None:
        status = sly.stat()
        sly.write_text("two")
        os.utime(sly, ns=(status.st_atime_ns, status.st_mtime_ns))

    async with opened(own_home, workspace) as c:
        thread = (await run(c, doing(change))).thread
        await run(c, doing(lambda: sly.write_text("six")), thread=thread)
        await c.rewind(thread, 1)
        assert sly.read_text() == "two"


async def test_the_users_version_control_is_never_touched(own_home: Path, workspace: Path) -> None:
    (workspace / "notes.txt").write_text("mine\n")
    repository = workspace / ".git"
    (repository / "refs").mkdir(parents=True)
    (repository / "index").write_bytes(b"DIRC\0\1\2")
    (workspace / "module").mkdir()
    (workspace / "module" / ".git").write_text("gitdir: ../.git/modules/module\n")
    bare = workspace / "bare"
    for name in ("objects", "refs"):
        (bare / name).mkdir(parents=True)
    (bare / "HEAD").write_text("ref: refs/heads/main\n")

    def commit() -> None:
        (workspace / "notes.txt").write_text("changed\n")
        (repository / "index").write_bytes(b"DIRC by the tool")
        (bare / "HEAD").write_text("ref: refs/heads/other\n")

    async with opened(own_home, workspace) as c:
        thread = (await run(c, doing(commit))).thread
        held = {path: listing(workspace / path) for path in (".git", "bare")}
        stats = untouched(repository / "index"), untouched(bare / "HEAD")
        report = await c.rewind(thread, 0)
    assert (workspace / "notes.txt").read_text() == "mine\n"
    assert held == {path: listing(workspace / path) for path in (".git", "bare")}
    assert stats == (untouched(repository / "index"), untouched(bare / "HEAD"))
    alone = {left.path for left in report.left_alone}
    assert {".git", "module/.git", "bare/HEAD"} <= alone
    contents = rows(own_home, "select data from blobs")
    assert not any(b"DIRC" in data for (data,) in contents)


async def test_what_is_left_out_is_named_and_never_touched(own_home: Path, workspace: Path) -> None:
    big, log = workspace / "big.bin", workspace / "grows.log"
    big.write_bytes(b"b" * 2000)
    log.write_bytes(b"small")
    (workspace / "node_modules" / "lib").mkdir(parents=True)
    (workspace / "data").mkdir()
    (workspace / "data" / "raw.csv").write_text("1\n")
    os.mkfifo(workspace / "pipe")

    def change() -> None:
        big.write_bytes(b"c" * 3000)
        log.write_bytes(b"l" * 5000)
        (workspace / "new-big.bin").write_bytes(b"n" * 4000)
        (workspace / "node_modules" / "lib" / "index.js").write_text("new\n")
        (workspace / "data" / "raw.csv").write_text("2\n")
        shutil.rmtree(workspace / "kept-folder", ignore_errors=True)
        (workspace / "made" / "node_modules").mkdir(parents=True)
        (workspace / "made" / "small.txt").write_text("goes\n")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(workspace / "sock"))

    snapshots = {"max_file_mb": 0.001, "exclude": ["node_modules", "data/*.csv"]}
    async with opened(own_home, workspace, snapshots=snapshots) as c:
        thread = (await run(c, doing(change))).thread
        after = listing(workspace)
        report = await c.rewind(thread, 0)
    del after[b"made/small.txt"]
    assert listing(workspace) == after
    reasons = {left.path: left.reason for left in report.left_alone}
    assert "max_file_mb" in reasons["big.bin"]
    assert "max_file_mb" in reasons["grows.log"]
    assert "max_file_mb" in reasons["new-big.bin"]
    assert "exclude" in reasons["node_modules"]
    assert "exclude" in reasons["data/raw.csv"]
    assert "not a file" in reasons["pipe"]
    assert "not a file" in reasons["sock"]
    assert [file.path for file in report.files] == ["made/small.txt"]
    assert report.failed == ()


async def test_a_planted_link_leads_nobody_out(own_home: Path, workspace: Path) -> None:
    outside = workspace.parent / "outside"
    outside.mkdir()
    (outside / "paper.txt").write_text("theirs\n")
    (workspace / "docs").mkdir()
    (workspace / "docs" / "paper.txt").write_text("mine\n")

    def plant() -> None:
        shutil.rmtree(workspace / "docs")
        (workspace / "docs").symlink_to(outside)
        (workspace / "paper.txt").symlink_to(outside / "paper.txt")

    async with opened(own_home, workspace) as c:
        thread = (await run(c, doing(plant))).thread
        # The second run reads the workspace with the links in it.
        await run(c, doing(lambda: (workspace / "x").write_text("x")), thread=thread)
        held = listing(outside)
        report = await c.rewind(thread, 0)
        assert report.failed == ()
        assert not (workspace / "docs").is_symlink()
        assert (workspace / "docs" / "paper.txt").read_text() == "mine\n"
        assert listing(outside) == held
    assert b"theirs" not in (own_home / "corral.db").read_bytes()


async def test_a_link_that_is_planted_while_files_are_put_back_leads_nobody_out(
    own_home: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = workspace.parent / "outside"
    outside.mkdir()
    (outside / "paper.txt").write_text("theirs\n")
    (workspace / "docs").mkdir()
    (workspace / "docs" / "paper.txt").write_text("mine\n")
    write = restore.Restorer.write

    def planting(self: restore.Restorer, *args: Any) -> dict[str, str]:
        (workspace / "docs").rename(workspace / "moved")
        (workspace / "docs").symlink_to(outside)
        return write(self, *args)

    async with opened(own_home, workspace) as c:
        change = doing(lambda: (workspace / "docs" / "paper.txt").write_text("changed\n"))
        thread = (await run(c, change)).thread
        monkeypatch.setattr(restore.Restorer, "write", planting)
        report = await c.rewind(thread, 0)
    assert [left.path for left in report.failed] == ["docs/paper.txt"]
    assert "nobody follows it" in report.failed[0].reason
    assert listing(outside) == {b"paper.txt": listing(outside)[b"paper.txt"]}
    assert (outside / "paper.txt").read_text() == "theirs\n"


async def test_what_somebody_changes_meanwhile_is_left_as_it_is(
    own_home: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = workspace / "mine.txt", workspace / "other.txt"
    mine.write_text("one\n")
    other.write_text("one\n")
    remove = restore.Restorer.remove

    def typing(self: restore.Restorer, *args: Any) -> dict[str, str]:
        mine.write_text("typed just now\n")
        return remove(self, *args)

    def change() -> None:
        mine.write_text("two\n")
        other.write_text("two\n")

    async with opened(own_home, workspace) as c:
        thread = (await run(c, doing(change))).thread
        monkeypatch.setattr(restore.Restorer, "remove", typing)
        report = await c.rewind(thread, 0)
    assert mine.read_text() == "typed just now\n"
    assert other.read_text() == "one\n"
    assert [(left.path, "changed meanwhile" in left.reason) for left in report.failed] == [
        ("mine.txt", True)
    ]


@pytest.mark.parametrize(
    ("snapshots", "said"),
    [({"max_total_mb": 0.001}, "0.001 MB"), ({"max_files": 3}, "more than 3 files")],
)
async def test_a_workspace_that_is_too_large_is_said_and_not_kept(
    own_home: Path, workspace: Path, snapshots: dict[str, Any], said: str
) -> None:
    for number in range(5):
        (workspace / f"{number}.txt").write_bytes(b"x" * 400)
    first = workspace / "0.txt"
    async with opened(own_home, workspace, snapshots=snapshots) as c:
        agent = doing(lambda: first.write_text("new"), lambda: first.write_text("newer"))
        options = corral.RunOptions(agent=agent)
        events = [event.to_json() async for event in c.stream("Go.", options)]
        notices = [event["text"] for event in events if event["type"] == "notice"]
        (result,) = [event for event in events if event["type"] == "result"]
        assert result["status"] == "completed"
        assert len(notices) == 1
        assert said in notices[0]
        assert f"snapshots.{next(iter(snapshots))}" in notices[0]
        report = await c.rewind(result["thread"], 0)
    assert report.files == ()
    assert said in report.notes[0]
    assert first.read_text() == "newer"
    assert rows(own_home, "select count(*) from snapshots where root is not null") == [(0,)]


async def test_a_rewind_that_could_not_be_undone_is_refused(
    own_home: Path, workspace: Path
) -> None:
    (workspace / "a.txt").write_text("one\n")
    async with opened(own_home, workspace) as c:
        thread = (await run(c, doing(lambda: (workspace / "a.txt").write_text("two\n")))).thread
    for number in range(5):
        (workspace / f"{number}.txt").write_text("x")
    before = listing(workspace)
    async with opened(own_home, workspace, snapshots={"max_files": 3}) as c:
        with pytest.raises(UsageError, match="nothing was rewound"):
            await c.rewind(thread, 0)
        assert listing(workspace) == before
        assert not (await c.records.runs())[0].rewound
        report = await c.rewind(thread, 0, files=False)
        assert report.files == ()
        assert (await c.records.runs())[0].rewound
    assert listing(workspace) == before


async def test_snapshots_can_be_switched_off(own_home: Path, workspace: Path) -> None:
    async with opened(own_home, workspace, snapshots={"enabled": False}) as c:
        thread = (await run(c, doing(lambda: (workspace / "a").write_text("a")))).thread
        report = await c.rewind(thread, 0)
    assert report.files == ()
    assert (workspace / "a").exists()
    assert rows(own_home, "select count(*) from snapshots") == [(0,)]


def test_a_project_may_not_decide_what_is_kept(own_home: Path, workspace: Path) -> None:
    (workspace / "corral.toml").write_text('[snapshots]\nexclude = ["*"]\n')
    with pytest.raises(ConfigError, match="may not set snapshots"):
        settings(own_home, workspace)


async def test_a_file_that_does_not_hold_still_is_left_out(
    own_home: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = workspace / "busy.log"
    busy.write_text("x")
    (workspace / "calm.txt").write_text("calm\n")
    read_all = scan._read_all

    def while_it_grows(fd: int, limit: int) -> bytes:
        content = read_all(fd, limit)
        if content.startswith(b"x"):
            with busy.open("a") as file:
                file.write("x")
        return content

    monkeypatch.setattr(scan, "_read_all", while_it_grows)
    async with opened(own_home, workspace) as c:
        thread = (await run(c, doing((workspace / "calm.txt").unlink))).thread
        report = await c.rewind(thread, 0)
    assert (workspace / "calm.txt").read_text() == "calm\n"
    assert "being written" in {left.path: left.reason for left in report.left_alone}["busy.log"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_what_cannot_be_read_is_named_and_stops_nothing(
    own_home: Path, workspace: Path
) -> None:
    (workspace / "secret").write_text("s")
    (workspace / "secret").chmod(0)
    (workspace / "closed").mkdir(mode=0)
    (workspace / "a.txt").write_text("one\n")
    async with opened(own_home, workspace) as c:
        thread = (await run(c, doing(lambda: (workspace / "a.txt").write_text("two\n")))).thread
        report = await c.rewind(thread, 0)
    (workspace / "closed").chmod(0o700)
    assert (workspace / "a.txt").read_text() == "one\n"
    assert {left.path for left in report.left_alone} == {"secret", "closed"}


async def test_folders_without_end_are_left_out(own_home: Path, workspace: Path) -> None:
    def dig() -> None:
        folder = workspace
        for _ in range(130):
            folder = folder / "d"
            folder.mkdir()
        (folder / "bottom").write_text("deep\n")

    async with opened(own_home, workspace) as c:
        thread = (await run(c, doing(dig))).thread
        report = await c.rewind(thread, 0)
    (left,) = report.left_alone
    assert "folders deep" in left.reason
    assert (workspace / left.path / "d").is_dir()


async def test_corrals_own_database_in_the_workspace_is_left_alone(workspace: Path) -> None:
    home = workspace / "state"
    (workspace / "a.txt").write_text("one\n")
    async with opened(home, workspace) as c:
        thread = (await run(c, doing(lambda: (workspace / "a.txt").write_text("two\n")))).thread
        report = await c.rewind(thread, 0)
        assert "state/corral.db" in {left.path for left in report.left_alone}
        assert (workspace / "a.txt").read_text() == "one\n"
        assert (await c.records.runs())[0].rewound


@pytest.mark.parametrize("meanwhile", [False, True])
async def test_a_snapshot_is_whole_though_contents_are_swept(
    own_home: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: bool
) -> None:
    monkeypatch.setattr(scan, "_RACY", -(10**15))
    monkeypatch.setattr(store, "_BATCH_COUNT", 3)
    for number in range(10):
        (workspace / f"{number}.txt").write_text(f"{number}\n")
    before = listing(workspace)
    whole = scan.Scanner.scan

    def sweep() -> None:
        """As when all runs so far have been taken by gc."""
        with sqlite3.connect(own_home / "corral.db") as database:
            database.execute("delete from snapshots")
            database.execute("delete from blobs")

    def swept(self: scan.Scanner, sink: scan.Sink) -> scan.Scan:
        found = whole(self, sink)
        monkeypatch.setattr(scan.Scanner, "scan", whole)
        sweep()
        return found

    async with opened(own_home, workspace) as c:
        await run(c, doing(lambda: None))
        if meanwhile:
            monkeypatch.setattr(scan.Scanner, "scan", swept)
        else:
            sweep()
        thread = (await run(c, doing(*[p.unlink for p in workspace.iterdir()]))).thread
        assert listing(workspace) == {}
        await c.rewind(thread, 0)
    assert listing(workspace) == before


async def test_threads_that_work_in_one_folder_at_once_are_all_kept(
    own_home: Path, workspace: Path
) -> None:
    (workspace / "shared.txt").write_text("shared\n")

    def writing(name: str) -> Deed:
        return lambda: (workspace / name).write_text(name)

    async with opened(own_home, workspace) as c:
        results = await asyncio.gather(*(run(c, doing(writing(f"{n}.txt"))) for n in range(4)))
        kept = "select run_id from snapshots where root is not null order by created_at"
        (first,), *others = rows(own_home, kept)
        assert {first, *(run for (run,) in others)} == {result.run for result in results}
        thread = next(result.thread for result in results if result.run == first)
        report = await c.rewind(thread, 0)
        assert all(run in report.notes[0] for (run,) in others)
    assert (workspace / "shared.txt").read_text() == "shared\n"


async def test_a_content_that_is_missing_costs_its_file_and_nothing_else(
    own_home: Path, workspace: Path
) -> None:
    for name in ("lost.txt", "kept.txt"):
        (workspace / name).write_text(name)

    def change() -> None:
        for path in workspace.iterdir():
            path.write_text("changed")

    async with opened(own_home, workspace) as c:
        thread = (await run(c, doing(change))).thread
        with sqlite3.connect(own_home / "corral.db") as database:
            gone = database.execute("delete from blobs where digest = ?", (digest_of(b"lost.txt"),))
            assert gone.rowcount == 1
        report = await c.rewind(thread, 0)
    assert (workspace / "kept.txt").read_text() == "kept.txt"
    assert (workspace / "lost.txt").read_text() == "changed"
    assert [left.path for left in report.failed] == ["lost.txt"]


async def test_a_full_database_costs_the_snapshot_and_not_the_run(
    own_home: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = workspace / "note.txt"
    note.write_text("one")

    def full(*_: Any) -> None:
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))

    async with opened(own_home, workspace) as c:
        with monkeypatch.context() as patched:
            patched.setattr("corral.runtime.blobs.put_all", full)
            options = corral.RunOptions(agent=doing(lambda: note.write_text("two")))
            events = [event.to_json() async for event in c.stream("Go.", options)]
        (notice,) = [event["text"] for event in events if event["type"] == "notice"]
        assert "no space left" in notice
        assert events[-1]["status"] == "completed"
        report = await c.rewind(events[-1]["thread"], 0)
    assert "no space left" in report.notes[0]
    assert note.read_text() == "two"


async def test_a_full_disk_stops_a_rewind_that_can_be_finished(
    own_home: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        (workspace / f"{number}.txt").write_text("one")
    before = listing(workspace)
    write = restore._write

    def full(folder: int, name: str, *more: Any) -> None:
        write(folder, name, *more)
        if sum(path.read_text() == "one" for path in workspace.glob("?.txt")) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def change() -> None:
        for path in workspace.iterdir():
            path.write_text("two")

    async with opened(own_home, workspace) as c:
        thread = (await run(c, doing(change))).thread
        with monkeypatch.context() as patched:
            patched.setattr(restore, "_write", full)
            with pytest.raises(StorageError, match="No space left"):
                await c.rewind(thread, 0)
        assert sorted(path.read_text() for path in workspace.iterdir()) == ["one", "two", "two"]
        with pytest.raises(ConflictError, match="was cut off"):
            await run(c, doing(change), thread=thread)
        report = await c.rewind(thread, 0)
    assert report.failed == ()
    assert listing(workspace) == before
