"""The files of a sandbox from the host's side: nothing leads out, whatever is exchanged."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import pytest

from corral.errors import SandboxError
from corral.sandbox.files import walk
from corral.sandbox.files.local import LocalFiles

TURNS = 20_000


@pytest.fixture(params=["openat2", "walk"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to open beneath a folder."""
    if request.param == "walk":
        monkeypatch.setattr(walk, "has_openat2", lambda: False)
    elif not walk.has_openat2():
        pytest.skip("this kernel has no openat2")
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "workspace"
    made.mkdir()
    return made


@pytest.fixture
def files(folder: Path, way: str) -> Iterator[LocalFiles]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    made = LocalFiles(fd)
    os.close(fd)
    yield made
    made.close()


async def refused(what: object) -> str:
    with pytest.raises(SandboxError) as raised:
        await what  # type: ignore[misc]  # a coroutine of any kind
    return raised.value.message


async def test_files_go_in_and_out(files: LocalFiles, folder: Path) -> None:
    await files.write("a/b/c.bin", b"\0\1")
    assert (folder / "a/b/c.bin").read_bytes() == b"\0\1"
    assert await files.read("a/./b/c.bin") == b"\0\1"
    (folder / "a/b/c.bin").chmod(0o4755)
    await files.write("a/b/c.bin", b"new")
    assert (folder / "a/b/c.bin").stat().st_mode & 0o7777 == 0o755
    await files.make_folder("d/e")
    await files.move("a/b/c.bin", "d/e/f")
    shown = [(str(e.path), e.kind, e.size) for e in await files.listing(deep=True)]
    assert shown == [
        ("a", "folder", 0),
        ("a/b", "folder", 0),
        ("d", "folder", 0),
        ("d/e", "folder", 0),
        ("d/e/f", "file", 3),
    ]
    assert [e.path for e in await files.listing("d/e")] == [PurePosixPath("d/e/f")]
    await files.remove("d")
    assert [e.path.name for e in await files.listing()] == ["a"]
    assert "There is no d/e/f" in await refused(files.read("d/e/f"))


async def test_a_read_is_bounded(files: LocalFiles, folder: Path) -> None:
    (folder / "big").write_bytes(bytes(1001))
    assert len(await files.read("big", limit=1001)) == 1001
    assert "longer than 1000 bytes" in await refused(files.read("big", limit=1000))


async def test_a_deep_tree_is_removed(files: LocalFiles, folder: Path) -> None:
    here = os.open(folder, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    await files.remove("d")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "a/../../secret", "out", "up/secret", "x\0y", "n" * 300]
)
async def test_no_path_leads_out(files: LocalFiles, folder: Path, path: str) -> None:
    secret = folder.parent / "secret"
    secret.write_text("canary")
    (folder / "out").symlink_to(secret)
    (folder / "up").symlink_to(folder.parent)
    (folder / "mine").write_text("x")
    await refused(files.read(path))
    await refused(files.listing(path))
    await refused(files.get_archive(path))
    await refused(files.make_folder(path))
    if path != "out":  # a link itself may be replaced, moved and removed
        await refused(files.write(path, b"x"))
        await refused(files.move("mine", path))
        await refused(files.remove(path))
    assert secret.read_text() == "canary"


async def test_what_is_written_over_a_link_replaces_the_link(
    files: LocalFiles, folder: Path
) -> None:
    secret = folder.parent / "secret"
    secret.write_text("canary")
    (folder / "out").symlink_to(secret)
    assert "is a link" in await refused(files.write("out", b"x"))
    await files.remove("out")
    await files.write("out", b"x")
    assert secret.read_text() == "canary"


async def test_another_name_of_a_file_keeps_its_content(files: LocalFiles, folder: Path) -> None:
    other = folder.parent / "other"
    other.write_text("old")
    (folder / "name").hardlink_to(other)
    await files.write("name", b"new")
    assert (other.read_text(), (folder / "name").read_text()) == ("old", "new")


async def test_nothing_waits_on_what_is_no_file(files: LocalFiles, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "is a pipe, not a file" in await refused(files.read("pipe"))
    assert "is a pipe, not a file" in await refused(files.write("pipe", b""))
    assert "workspace itself" in await refused(files.read("."))
    if os.geteuid() == 0:
        os.mknod(folder / "device", 0o020666, os.makedev(1, 5))
        assert "is a device" in await refused(files.read("device"))
    assert {e.kind for e in await files.listing()} == {"other"}
    assert (await files.get_archive()).count(b"pipe") == 0


ATTACK = """
import os, sys
from contextlib import suppress
secret = sys.argv[1]
print(flush=True)
while True:
    try:
        os.rename("d", "aside")
        os.symlink(secret, "d")
        os.unlink("d")
        os.rename("aside", "d")
        os.rename("d/f", "d/g")
        os.symlink(secret + "/f", "d/f")
        os.unlink("d/f")
        os.rename("d/g", "d/f")
    except OSError:  # the host has made something in its place
        with suppress(OSError):
            os.rename("d", "away")
"""


@pytest.fixture
def attacked(folder: Path) -> Iterator[Path]:
    """A folder ``d`` with a file ``f``, which somebody exchanges for links to ``secret/f``."""
    secret = folder.parent / "secret"
    for made in (secret, folder / "d"):
        made.mkdir()
    (secret / "f").write_text("canary")
    (folder / "d" / "f").write_text("harmless")
    attack = [sys.executable, "-I", "-c", ATTACK, str(secret)]
    with subprocess.Popen(attack, cwd=folder, stdout=subprocess.PIPE) as attacker:
        assert attacker.stdout is not None
        attacker.stdout.read(1)
        yield secret
        attacker.kill()


@pytest.mark.slow
async def test_reading_during_exchanges_never_leads_out(files: LocalFiles, attacked: Path) -> None:
    found = set()
    for _ in range(TURNS):
        with suppress(SandboxError):
            found.add(await files.read("d/f"))
    assert found == {b"harmless"}


@pytest.mark.slow
async def test_writing_during_exchanges_never_leads_out(files: LocalFiles, attacked: Path) -> None:
    done = 0
    for turn in range(TURNS // 20):
        try:
            await files.write("d/new", b"mine")
            done += 1
            await files.write(f"d/deep/{turn % 7}/x", b"mine")
            await files.remove("d/deep")
        except SandboxError:
            continue
    assert done
    assert [entry.name for entry in attacked.iterdir()] == ["f"]
    assert (attacked / "f").read_text() == "canary"


async def test_many_at_once(files: LocalFiles) -> None:
    await asyncio.gather(*(files.write(f"f{n % 5}", b"%d" % n) for n in range(50)))
    entries = await files.listing()
    assert [entry.path.name for entry in entries] == ["f0", "f1", "f2", "f3", "f4"]
