"""What is particular to Landlock: no mounts to hide anything, so rights and a filter must do."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from corral.errors import SandboxError
from corral.sandbox import host
from corral.sandbox.contract import Grant, Profile
from corral.sandbox.launcher.landlock import parts_beside
from corral.sandbox.network.rules import Network, NetworkRule
from corral.sandbox.registry import select_backend
from tests.sandbox.inside import Inside

TRY = """
import json, os, sys
def outcome(action):
    try:
        action()
        return "done"
    except OSError as error:
        return type(error).__name__
"""


@pytest.fixture
def inside(inside: Inside) -> Inside:
    try:
        host.check_landlock()
    except SandboxError as error:
        pytest.skip(error.message)
    inside.backend = select_backend("landlock")
    return inside


def test_a_right_to_write_leaves_read_only_parts_out(tmp_path: Path) -> None:
    for folder in ("a/kept", "a/free", "b"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("/")
    kept = tmp_path / "a" / "kept"
    found = {str(part.relative_to(tmp_path)) for part in parts_beside(tmp_path, [kept])}
    assert found == {"a/free", "b", "file"}
    assert list(parts_beside(tmp_path, [])) == [tmp_path]
    assert list(parts_beside(kept, [kept])) == []
    assert list(parts_beside(tmp_path, [tmp_path.parent / "elsewhere"])) == [tmp_path]


def test_a_read_only_folder_inside_a_writable_one_stays_read_only(inside: Inside) -> None:
    git = inside.folder / ".git"
    git.mkdir()
    (git / "config").write_text("[core]\n")
    (inside.folder / "src").mkdir()
    (inside.folder / "there").write_text("")
    code = f"""{TRY}
print(json.dumps([
    outcome(lambda: open(".git/config", "a")),
    outcome(lambda: open(".git/hook", "w")),
    outcome(lambda: os.rename(".git", "elsewhere")),
    outcome(lambda: os.rename(".git/config", "src/config")),
    outcome(lambda: os.link(".git/config", "src/config")),
    outcome(lambda: open("src/new", "w")),
    outcome(lambda: open("there", "a")),
    open(".git/config").read(),
]))"""
    grants = (Grant(git), Grant(inside.folder, writable=True))
    found = inside.answer(code, grants=grants)
    assert "done" not in found[:5]
    assert found[5:] == ["done", "done", "[core]\n"]


def test_the_private_folder_is_writable_and_removed(inside: Inside) -> None:
    code = f"""{TRY}
import tempfile
os.makedirs(os.path.join(tempfile.gettempdir(), "deep/er"))
os.mkdir(os.path.expanduser("~/closed"), 0)
print(json.dumps([os.getcwd(), tempfile.gettempdir(), os.environ["HOME"]]))"""
    folder, temporary, home = inside.answer(code, grants=(), workdir=None)
    assert folder == temporary == home
    assert Path(folder).parent == Path(tempfile.gettempdir()).resolve()
    assert not Path(folder).exists()


def test_a_linked_folder_is_seen_under_the_name_that_was_granted(
    inside: Inside, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(inside.folder)
    code = f"import json; open({str(link / 'made')!r}, 'w').close(); print(json.dumps(1))"
    assert inside.answer(code, grants=(Grant(link, writable=True),), workdir=link) == 1
    assert (inside.folder / "made").exists()


def test_ordinary_programs_work(inside: Inside) -> None:
    code = """
import asyncio, json, os, socket, sqlite3, subprocess, tempfile, threading
async def program():
    process = await asyncio.create_subprocess_exec("echo", "hi", stdout=-1)
    return (await process.communicate())[0].decode()
said = asyncio.run(program())
one, other = socket.socketpair()
one.send(b"x")
sqlite3.connect("data.db").execute("create table t (x)").connection.close()
with tempfile.NamedTemporaryFile() as file:
    file.write(b"x")
shell = subprocess.run(["sh", "-c", "echo $((6*7)) | cat"], capture_output=True, text=True).stdout
print(json.dumps([said, other.recv(1).decode(), shell, len(os.listdir("/proc/self/fd")) > 2]))
"""
    assert inside.answer(code) == ["hi\n", "x", "42\n", True]


def test_a_network_is_refused(tmp_path: Path) -> None:
    profile = Profile(network=Network((NetworkRule("example.com"),)), proxy=tmp_path / "socket")
    with pytest.raises(SandboxError, match="has no network") as raised:
        select_backend("landlock").launch(("/bin/true",), profile)
    assert "bubblewrap" in raised.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="as root the sandbox has another user")
def test_started_by_root_it_has_a_user_of_its_own(inside: Inside) -> None:
    code = "print(__import__('os').getuid(), flush=True); input()"
    with inside.start(code) as one, inside.start(code) as other:
        assert one.stdout is not None
        assert other.stdout is not None
        users = {int(one.stdout.readline()), int(other.stdout.readline())}
    assert len(users) == 2
    assert 0 not in users


def test_corral_serves_its_files_in_it(inside: Inside) -> None:
    """A whole tool server, as it is started for agents."""
    from corral.tools.builtin import builtin_command

    (inside.folder / "note").write_text("found")
    argv, profile = builtin_command("files", inside.folder)
    launch = inside.backend.launch(argv, profile)
    done = subprocess.run(
        launch.argv, env=dict(launch.env), input="", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
