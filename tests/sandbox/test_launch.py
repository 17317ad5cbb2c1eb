"""What a profile grants is there, what it does not is not, and nonsense is refused in words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.errors import ConfigError, SandboxError
from corral.sandbox import host
from corral.sandbox.contract import Grant, Profile
from corral.sandbox.launcher import staging
from corral.sandbox.launcher.spawn import SANDBOX_USER
from corral.sandbox.registry import BACKENDS, select_backend
from tests.sandbox.inside import Inside

TRY = """
import json, os, sys
def outcome(action):
    try:
        action()
        return "done"
    except OSError as error:
        return type(error).__name__ + f" {error.errno}"
"""
REFUSED = ("FileNotFoundError", "PermissionError", "OSError")


def test_a_read_only_folder_inside_a_writable_one_stays_read_only(inside: Inside) -> None:
    git = inside.folder / ".git"
    git.mkdir()
    (git / "config").write_text("[core]\n")
    grants = (Grant(git), Grant(inside.folder, writable=True))
    code = f"""{TRY}
print(json.dumps([
    outcome(lambda: open(".git/config", "a")),
    outcome(lambda: open(".git/hook", "w")),
    outcome(lambda: os.rename(".git", "elsewhere")),
    outcome(lambda: open("beside", "w")),
    open(".git/config").read(),
]))"""
    assert inside.answer(code, grants=grants) == [
        "OSError 30",
        "OSError 30",
        "OSError 16",
        "done",
        "[core]\n",
    ]


@pytest.mark.parametrize("backend", ["bubblewrap", "landlock", "gvisor"])
@pytest.mark.parametrize("writable", [True, False])
def test_a_hidden_folder_is_not_seen_but_for_what_is_granted_in_it(
    inside: Inside, backend: str, writable: bool
) -> None:
    home = inside.folder / "data" / "home"
    for name in ("serve/key", "packages/a.py"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text(name)
    for name in ("beside", "data/beside"):
        (inside.folder / name).write_text(name)
    grants = (Grant(inside.folder, writable=writable), Grant(home / "packages"))
    code = f"""{TRY}
print(json.dumps([
    outcome(lambda: open("data/home/serve/key")),
    outcome(lambda: open("data/home/serve/new", "w")),
    open("beside").read(),
    open("data/beside").read(),
    open("data/home/packages/a.py").read(),
    outcome(lambda: open("data/home/packages/b.py", "w")),
    sorted(os.listdir("data")),
]))"""
    inside.backend = select_backend(backend)
    try:
        found = inside.answer(code, grants=grants, hidden=(home, inside.folder / "missing"))
    except SandboxError as error:
        pytest.skip(error.message)
    assert all(said.split()[0] in REFUSED for said in (*found[:2], found[5]))
    assert found[2:5] == ["beside", "data/beside", "packages/a.py"]
    assert found[6] == ["beside", "home"]
    assert (home / "serve" / "key").read_text() == "serve/key"


@pytest.mark.parametrize("linked", [False, True])
def test_corral_itself_cannot_be_changed_from_a_grant_that_holds_it(
    inside: Inside, tmp_path: Path, linked: bool
) -> None:
    root = Path(__file__).resolve().parents[2]
    if linked:
        (tmp_path / "link").symlink_to(root)
        root = tmp_path / "link"
    code = f"""{TRY}
import sys
print(json.dumps([
    outcome(lambda: os.close(os.open({str(root / "corral" / "errors.py")!r}, os.O_RDWR))),
    outcome(lambda: os.close(os.open({str(Path(os.__file__))!r}, os.O_RDWR))),
]))"""
    grants = (Grant(inside.folder, writable=True), Grant(root, writable=True))
    # Read-only, or not this user's to begin with.
    assert set(inside.answer(code, grants=grants)) <= {"OSError 30", "PermissionError 13"}


def test_without_a_working_folder_there_is_a_private_one(inside: Inside) -> None:
    code = f"""{TRY}
found = [os.getcwd(), os.listdir(), os.environ["HOME"], outcome(lambda: open("mine", "w"))]
print(json.dumps(found))
"""
    assert inside.answer(code, grants=(), workdir=None) == ["/tmp/home", [], "/tmp/home", "done"]


def test_the_environment_is_what_the_profile_says(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "canary")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    assert inside.answer(code, env={"GIVEN": "a b\n='\"", "LANG": "C.utf8"}) == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp/home",
        "LANG": "C.utf8",
        "GIVEN": "a b\n='\"",
        "PWD": str(inside.folder),
    }


def test_ordinary_programs_work(inside: Inside) -> None:
    """Sub-processes, a pool, shared memory, loopback, a database and the user's name."""
    code = """
import getpass, json, multiprocessing, os, socket, sqlite3, subprocess, tempfile
from multiprocessing import shared_memory
with multiprocessing.get_context("fork").Pool(2) as pool:
    squares = pool.map(abs, [-1, -2])
block = shared_memory.SharedMemory(create=True, size=4096)
block.close()
block.unlink()
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
sqlite3.connect("data.db").execute("create table t (x)").connection.close()
with tempfile.NamedTemporaryFile() as file:
    file.write(b"x")
shell = subprocess.run(["sh", "-c", "echo $((6*7))"], capture_output=True, text=True).stdout
print(json.dumps([squares, shell, getpass.getuser(), os.uname().nodename]))
"""
    assert inside.answer(code) == [[1, 2], "42\n", "sandbox", "sandbox"]


def test_a_linked_folder_is_seen_under_the_name_that_was_granted(
    inside: Inside, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(inside.folder)
    code = "import json, os; open('made', 'w').close(); print(json.dumps(os.getcwd()))"
    grants = (Grant(link, writable=True),)
    assert inside.answer(code, grants=grants, workdir=link) == str(link)
    assert (inside.folder / "made").exists()


def test_open_files_of_the_parent_are_not_inherited(inside: Inside, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary")
    code = """
import json, os
read = []
for number in range(3, 200):
    try:
        read.append(os.read(number, 100).decode())
    except OSError:
        pass
print(json.dumps(read))
"""
    command = (str(host.interpreter()), "-I", "-S", "-c", code)
    launch = inside.backend.launch(command, inside.profile())
    with secret.open() as file:
        done = subprocess.run(
            launch.argv,
            env=dict(launch.env),
            capture_output=True,
            text=True,
            check=False,
            pass_fds=(file.fileno(),),
        )
    assert done.stdout == "[]\n", done.stderr


def test_a_pipeline_ends_as_it_does_outside(inside: Inside) -> None:
    """SIGPIPE, which Python ignores, is not ignored inside."""
    launch = inside.backend.launch(("/bin/sh", "-c", "yes | head -n 1"), inside.profile())
    done = subprocess.run(
        launch.argv, env=dict(launch.env), capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("y\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")
def test_started_by_root_files_belong_to_the_owner_of_the_folder(inside: Inside) -> None:
    os.chown(inside.folder, 12345, 23456)
    inside.folder.chmod(0o700)
    theirs = inside.folder / "theirs"
    theirs.write_text("root's")
    theirs.chmod(0o600)
    code = f"""{TRY}
open("made", "w").close()
os.mkdir("folder")
print(json.dumps(outcome(lambda: open("theirs"))))"""
    assert inside.answer(code) == "PermissionError 13"
    for name in ("made", "folder"):
        status = (inside.folder / name).stat()
        assert (status.st_uid, status.st_gid) == (12345, 23456)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root maps the ids of its folders")
def test_the_map_of_roots_ids_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    staging.prepare(SANDBOX_USER)
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("another map was made"))
    staging.prepare(SANDBOX_USER)


@pytest.mark.skipif(os.geteuid() != 0, reason="as root the sandbox has another user")
def test_started_by_root_it_does_not_run_as_root(inside: Inside) -> None:
    with inside.start("print('ready', flush=True); input()") as process:
        assert process.stdout is not None
        process.stdout.readline()
        owners = {Path(f"/proc/{pid}").stat().st_uid for pid in inside.alive()}
    assert owners == {65533}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: Profile((Grant(p / "missing"),)), "does not exist"),
        (lambda p: Profile((Grant(Path("/")),)), "belongs to the system"),
        (lambda p: Profile((Grant(Path("/proc/self")),)), "belongs to the system"),
        (lambda p: Profile((Grant(Path("/usr/lib"), writable=True),)), "belongs to the system"),
        (lambda _: Profile((Grant(host.PACKAGE / "cli", writable=True),)), "Corral runs from"),
        (lambda p: Profile((Grant(p),), workdir=Path("/usr")), "not in a granted folder"),
        (lambda p: Profile(env={"A": "b\0c"}), "NUL"),
        (lambda p: Profile(env={"A=B": "c"}), "no usable name"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(
    tmp_path: Path, change: Callable[[Path], Profile], words: str
) -> None:
    with pytest.raises(SandboxError, match=words) as raised:
        select_backend().launch(("/bin/true",), change(tmp_path))
    assert raised.value.hint


def test_an_unknown_back_end_is_refused() -> None:
    assert [select_backend(name).name for name in BACKENDS] == list(BACKENDS)
    with pytest.raises(ConfigError, match="no sandbox 'docker'") as raised:
        select_backend("docker")
    assert "gvisor, bubblewrap, landlock" in raised.value.hint


def test_without_bubblewrap_there_is_no_sandbox_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(host, "packaged_bubblewrap", lambda: None)
    with pytest.raises(SandboxError, match="not installed") as raised:
        host.find_bubblewrap.__wrapped__()
    assert "apt-get install bubblewrap" in raised.value.hint


def test_an_old_bubblewrap_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "bwrap"
    old.write_text("#!/bin/sh\necho bubblewrap 0.4.1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    packaged = host.packaged_bubblewrap()
    if packaged is not None:
        assert host.find_bubblewrap.__wrapped__() == packaged
    monkeypatch.setattr(host, "packaged_bubblewrap", lambda: None)
    with pytest.raises(SandboxError, match=r"older than 0\.8"):
        host.find_bubblewrap.__wrapped__()


def test_no_sandbox_is_named_and_never_healthy(inside: Inside) -> None:
    inside.backend = select_backend("none")
    code = "import json, os; print(json.dumps([os.getcwd(), os.environ.get('GIVEN')]))"
    assert inside.answer(code, env={"GIVEN": "yes"}) == [str(inside.folder), "yes"]
    health = inside.backend.probe()
    assert not health.ok
    assert "without any isolation" in health.detail


def test_the_launcher_refuses_to_run_without_an_order() -> None:
    command = [sys.executable, *host.launcher_command()[1:]]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert "started by Corral" in done.stderr
