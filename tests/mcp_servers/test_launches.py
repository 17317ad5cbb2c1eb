"""Starts of tool servers that are remembered: what runs in a sandbox can have written none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from corral.agents.hosting.place import Place, find_place
from corral.mcp_servers import launches
from corral.mcp_servers.launches import Start, keep, kept

ARGV = ["/bin/echo", "started"]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


def place_of(home: Path, workspace: Path) -> Place:
    """With no variables but one."""
    return find_place(home, workspace, None, {"XDG_CONFIG_HOME": str(home.parent / "none")})


def started(home: Path, workspace: Path) -> Start | None:
    """What is remembered of a start there."""
    place = place_of(home, workspace)
    keep(place, "files", Start(ARGV, {}), [workspace])
    return kept(place, "files")


def test_a_start_is_remembered_outside_of_the_workspace(tmp_path: Path, workspace: Path) -> None:
    assert started(tmp_path / "home", workspace) == Start(ARGV, {})


def test_none_is_believed_that_the_sandbox_could_have_written(
    tmp_path: Path, workspace: Path
) -> None:
    assert started(workspace / "home", workspace) is None
    linked = tmp_path / "linked"
    linked.symlink_to(workspace)
    assert started(linked / "home", workspace) is None


def test_none_is_believed_where_a_file_says_what_the_workspace_is(
    tmp_path: Path, workspace: Path
) -> None:
    (workspace / "corral.toml").write_text('model = "scripted"\nworkspace = "/srv"\n')
    assert started(tmp_path / "home", workspace) is None


@pytest.mark.parametrize("file", ["tools/builtin.py", "sandbox/local/starter.py"])
def test_none_outlives_the_code_that_made_it(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    code = tmp_path / "corral"
    python = shutil.ignore_patterns("__pycache__")
    shutil.copytree(launches._CORRAL, code, ignore=python)
    monkeypatch.setattr(launches, "_CORRAL", code)
    assert started(tmp_path / "home", workspace) == Start(ARGV, {})
    with (code / file).open("a") as edited:  # in place, as an editor may do it
        edited.write("\n")
    assert kept(place_of(tmp_path / "home", workspace), "files") is None
