"""Starts of tool servers that are remembered: what runs in a sandbox can have written none."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.agents.hosting.place import find_place
from corral.mcp_servers.launches import Start, keep, kept

ARGV = ["/bin/echo", "started"]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


def started(home: Path, workspace: Path) -> Start | None:
    """What is remembered of a start there, with no variables but these two."""
    place = find_place(home, workspace, None, {"XDG_CONFIG_HOME": str(home.parent / "none")})
    keep(place, "files", ARGV, {}, [workspace])
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
