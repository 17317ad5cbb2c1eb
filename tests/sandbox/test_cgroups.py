"""Limits by cgroup v2: found only where they are real, and removed afterwards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from corral.sandbox.launcher import cgroups

MIB = 1024 * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that looks like a delegated hierarchy: ``user/app`` is this process's group."""
    root = tmp_path / "cgroup"
    (root / "user" / "app").mkdir(parents=True)
    for folder in (root, root / "user", root / "user" / "app"):
        (folder / "cgroup.procs").touch()
        (folder / "cgroup.subtree_control").write_text("cpu\n")
    (tmp_path / "mounts").write_text(
        "20 1 0:4 / /proc rw - proc proc rw\n"
        f"29 23 0:26 / {root} rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
    )
    (tmp_path / "own").write_text("1:name=systemd:/other\n0::/user/app\n")
    return root


def found(root: Path) -> str | None:
    return cgroups.find(str(root.parent / "mounts"), str(root.parent / "own"))


def test_without_the_controllers_there_is_nothing(root: Path) -> None:
    assert found(root) is None
    assert cgroups.make(found(root)) is None


@pytest.mark.parametrize("below", ["user/app", "user", ""])
def test_the_nearest_folder_that_hands_them_on_is_taken(root: Path, below: str) -> None:
    (root / below / "cgroup.subtree_control").write_text("cpu memory pids\n")
    assert found(root) == str(root / below).rstrip("/")


def test_a_folder_outside_of_the_hierarchy_is_never_taken(root: Path) -> None:
    (root.parent / "cgroup.subtree_control").write_text("memory pids\n")
    (root.parent / "cgroup.procs").touch()
    assert found(root) is None


def test_a_group_is_limited_and_removed(root: Path) -> None:
    group = cgroups.make(str(root))
    assert group is not None
    folder = Path(group.path)
    for name in ("memory.max", "memory.swap.max", "pids.max", "cgroup.procs"):
        (folder / name).touch()
    group.limit(64 * MIB, 32)
    group.enter()
    assert (folder / "memory.max").read_text() == str(64 * MIB)
    assert (folder / "memory.swap.max").read_text() == "0"
    assert int((folder / "pids.max").read_text()) >= 32
    assert (folder / "cgroup.procs").read_text() == "0"
    (folder / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert group.out_of_memory() == 2
    for file in folder.iterdir():
        file.unlink()
    group.remove()
    group.remove()
    assert not folder.exists()


def test_groups_of_the_dead_are_swept(root: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    for name in (f"corral-{process.pid}", f"corral-{os.getpid()}", "corral-other", "user-slice"):
        (root / name).mkdir()
    cgroups.sweep(str(root))
    kept = {path.name for path in root.iterdir() if path.is_dir()}
    assert kept == {f"corral-{os.getpid()}", "corral-other", "user-slice", "user"}


def test_a_real_group_is_ended_at_once() -> None:
    folder = Path("/sys/fs/cgroup/unified")
    if not os.access(folder / "cgroup.procs", os.W_OK):
        pytest.skip("no hierarchy here that this user may change")
    group = cgroups.Group(str(folder / f"corral-test-{os.getpid()}"))
    Path(group.path).mkdir()
    try:
        daemon = "input()\nimport os, time\nif os.fork() == 0:\n    os.setsid()\ntime.sleep(60)"
        with subprocess.Popen(["python3", "-c", daemon], stdin=subprocess.PIPE) as process:
            Path(group.path, "cgroup.procs").write_text(str(process.pid))
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.close()
            members = Path(group.path, "cgroup.procs")
            while len(members.read_text().split()) < 2:
                pass
            group.kill()
            assert process.wait() == -9
    finally:
        group.remove()
    assert not Path(group.path).exists()
