"""What a sandbox of this machine does for its user, over every back end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path, PurePosixPath

import pytest

import corral
from corral.errors import ConfigError, SandboxError
from corral.sandbox.contract import Command, Files, Limits, MiB, Profile
from corral.sandbox.local import snapshots
from corral.sandbox.registry import select_backend
from tests.sandbox.boxes import LOCAL, box, python

COUNTING = """
import os
fd, n = os.open('count', os.O_RDWR | os.O_CREAT), 0
while True:
    os.pwrite(fd, b'%020d' % n, 0)
    if n == 0:
        print('up', flush=True)
    n += 1
"""

both = pytest.mark.parametrize("backend", LOCAL)


@both
async def test_a_command_gets_its_input_folder_and_variables(backend: str) -> None:
    async with box(backend, env={"OF_THE_SANDBOX": "1"}) as sandbox:
        await sandbox.files.make_folder("inner")
        command = Command(
            ["sh", "-c", 'cat; basename "$PWD"; echo $OF_THE_SANDBOX $OF_THE_COMMAND >&2; exit 3'],
            stdin=b"given ",
            cwd=PurePosixPath("inner"),
            env={"OF_THE_COMMAND": "2"},
        )
        done = await sandbox.run(command)
    assert (done.code, done.stdout, done.stderr) == (3, b"given inner\n", b"1 2\n")
    assert (done.reason, done.dropped) == ("exited", 0)
    assert done.usage.wall_seconds > 0
    assert done.usage.peak_memory > MiB / 2


@both
async def test_commands_share_the_workspace_and_run_at_the_same_time(backend: str) -> None:
    async with box(backend) as sandbox:
        waiting = asyncio.create_task(
            python(sandbox, "import os\nwhile not os.path.exists('here'): pass\nprint('seen')")
        )
        await sandbox.run(Command(["touch", "here"]))
        assert (await waiting).stdout == b"seen\n"


@both
async def test_what_cannot_be_started_is_said_in_words(backend: str) -> None:
    async with box(backend) as sandbox:
        missing = await sandbox.run(Command(["no-such-program"]))
        lost = await sandbox.run(Command(["true"], cwd=PurePosixPath("no-such-folder")))
        with pytest.raises(SandboxError, match="NUL"):
            await sandbox.run(Command(["echo", "\0"]))
        with pytest.raises(SandboxError, match="empty"):
            await sandbox.run(Command([]))
    assert missing.code == 127
    assert "'no-such-program' could not be started" in missing.detail
    assert lost.code == 126
    assert "'no-such-folder' could not be started or entered" in lost.detail


async def test_output_comes_as_it_is_written_and_is_kept_at_both_ends() -> None:
    seen: list[tuple[str, bytes]] = []
    async with box("bubblewrap", limits=Limits(output=1000)) as sandbox:
        done = await sandbox.run(
            Command(
                ["sh", "-c", "echo start; head -c 5000 /dev/zero; echo end; echo wrong >&2"],
                output=lambda name, data: seen.append((name, data)),
            )
        )
    assert done.stdout.startswith(b"start\n\0")
    assert done.stdout.endswith(b"\0end\n")
    assert len(done.stdout) == 1000
    assert done.dropped == len("start\n") + 5000 + len("end\n") - 1000
    assert ("stderr", b"wrong\n") in seen
    assert sum(len(data) for name, data in seen if name == "stdout") == 5010


@both
async def test_a_stream_is_read_at_the_reader_s_pace(backend: str) -> None:
    async with box(backend) as sandbox:
        size = 0
        async with sandbox.stream(Command(["head", "-c", "20000000", "/dev/zero"])) as pieces:
            async for piece in pieces:
                size += len(piece)
                await asyncio.sleep(0)
        assert size == 20_000_000


async def test_a_stream_nobody_reads_on_ends_its_command() -> None:
    async with box("bubblewrap") as sandbox:
        async with sandbox.stream(Command(["yes"])) as pieces:
            assert (await anext(pieces)).startswith(b"y\n")
        assert (await sandbox.run(Command(["pgrep", "-c", "yes"]))).stdout == b"0\n"


async def test_a_standard_input_that_is_not_read_does_no_harm() -> None:
    async with box("bubblewrap") as sandbox:
        done = await sandbox.run(Command(["true"], stdin=bytes(10_000_000)))
    assert done.code == 0


@both
async def test_files_are_the_workspace_and_belong_to_the_sandbox(
    backend: str, tmp_path: Path
) -> None:
    for folder in (None, tmp_path):
        async with box(backend, folder) as sandbox:
            await sandbox.files.write("made/by-host", b"first")
            done = await sandbox.run(
                Command(["sh", "-c", "echo second >> made/by-host; rm made/by-host; echo $? > out"])
            )
            assert done.code == 0, done.stderr
            assert await sandbox.files.read("out") == b"0\n"
            assert [str(one.path) for one in await sandbox.files.listing()] == ["made", "out"]
    assert (tmp_path / "out").stat().st_uid == tmp_path.stat().st_uid


@both
async def test_a_private_workspace_is_gone_with_its_sandbox(backend: str) -> None:
    async with box(backend) as sandbox:
        await sandbox.files.write("kept", b"for now")
    async with box(backend) as sandbox:
        assert await sandbox.files.listing() == []


@both
async def test_a_snapshot_opens_with_the_files_it_was_made_of(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRAL_HOME", str(tmp_path))
    async with box(backend) as sandbox:
        await sandbox.files.write("folder/file", b"as it was")
        snapshot = await sandbox.snapshot()
        await sandbox.files.write("folder/file", b"changed")
    opened = await select_backend(backend).open(Profile(), snapshot)
    try:
        assert await opened.files.read("folder/file") == b"as it was"
        done = await opened.run(Command(["rm", "folder/file"]))
        assert done.code == 0
    finally:
        await opened.stop()
    snapshots.remove(snapshot)
    with pytest.raises(SandboxError, match="There is no snapshot"):
        await select_backend(backend).open(Profile(), snapshot)


async def test_a_snapshot_of_another_kind_or_for_a_granted_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRAL_HOME", str(tmp_path))
    async with box("bubblewrap") as sandbox:
        snapshot = await sandbox.snapshot()
    with pytest.raises(SandboxError, match="one of bubblewrap, not of none"):
        await select_backend("none").open(Profile(), snapshot)
    with pytest.raises(SandboxError, match="names a folder"):
        await select_backend().open(Profile(workdir=tmp_path), snapshot)


@both
async def test_paused_processes_stand_still(backend: str) -> None:
    async with box(backend) as sandbox:
        async with sandbox.stream(Command(["python3", "-c", COUNTING])) as pieces:
            await anext(pieces)
            await sandbox.pause()
            first = await sandbox.files.read("count")
            assert await sandbox.files.read("count") == first
            with pytest.raises(SandboxError, match="paused"):
                await sandbox.run(Command(["true"]))
            await sandbox.resume()
            await changed(sandbox.files, "count", first)
        assert (await sandbox.run(Command(["true"]))).code == 0


async def changed(files: Files, path: str, before: bytes) -> None:
    while await files.read(path) == before:
        pass


async def test_a_time_out_that_ends_during_a_pause_counts_when_it_goes_on() -> None:
    async with box("bubblewrap") as sandbox:
        up = asyncio.Event()
        command = Command(
            ["sh", "-c", "echo up; sleep 60"], timeout=0.2, output=lambda name, data: up.set()
        )
        running = asyncio.create_task(sandbox.run(command))
        await up.wait()
        await sandbox.pause()
        done, _ = await asyncio.wait({running}, timeout=0.4)
        assert not done
        await sandbox.resume()
        assert (await running).reason == "timeout"
        assert (await sandbox.run(Command(["true"]))).code == 0


async def test_stop_can_be_called_twice_and_then_nothing_works() -> None:
    async with box("bubblewrap") as sandbox:
        running = asyncio.create_task(sandbox.run(Command(["sleep", "60"])))
        await sandbox.run(Command(["true"]))
        await asyncio.gather(sandbox.stop(), sandbox.stop())
        assert (await running).reason == "killed"
        with pytest.raises(SandboxError, match="has ended"):
            await sandbox.run(Command(["true"]))
        with pytest.raises(SandboxError, match="has ended"):
            await sandbox.run_code("1")


async def test_a_sandbox_whose_folder_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="does not exist"):
        async with corral.open_sandbox(workspace=tmp_path / "missing"):
            pass


async def test_the_public_entry_point(tmp_path: Path) -> None:
    async with corral.open_sandbox(workspace=tmp_path, require=("memory", "kill_tree")) as sandbox:
        assert (await sandbox.run_code("open('made', 'w').write('by code')")).status == "ok"
        assert {"memory", "isolation:namespace"} <= sandbox.capabilities.names
    assert (tmp_path / "made").read_text() == "by code"
    with pytest.raises(ConfigError, match="no-such"):
        async with corral.open_sandbox("no-such"):
            pass


async def test_commands_start_in_milliseconds() -> None:
    async with box("bubblewrap") as sandbox:
        taken = []
        for _ in range(20):
            began = time.perf_counter()
            await sandbox.run(Command(["true"]))
            taken.append(time.perf_counter() - began)
    assert min(taken) < 0.02
