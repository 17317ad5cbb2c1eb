"""``corral mcp import`` of servers whose names are taken here."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.cli.place import Place

THEIRS = {"files": {"command": "x"}, "near": {"command": "y", "args": ["--all"]}}


@pytest.fixture
def shared(tmp_path: Path) -> str:
    """A client's file with a server that is called as one of ours."""
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": THEIRS}))
    return str(file)


def own(tmp_path: Path) -> dict[str, Any]:
    """The servers in the user's own settings."""
    mcp: dict[str, Any] = tomllib.loads(
        (tmp_path / "config" / "corral" / "config.toml").read_text()
    )["mcp"]
    return mcp


def test_a_server_is_taken_over_by_another_name(place: Place, tmp_path: Path, shared: str) -> None:
    left = place.corral("mcp", "import", shared, "--yes")
    assert "files: left out: files is the name of a server that Corral brings." in left.err
    assert "Give it another name: --rename files=NEW" in left.err
    done = place.corral("mcp", "import", shared, "--yes", "--rename", "files=their-files")
    assert done.code == 0, done.err
    assert "Added their-files." in done.err
    assert own(tmp_path) == {"their-files": THEIRS["files"], "near": THEIRS["near"]}


@pytest.mark.parametrize(
    ("rename", "told"),
    [("none=a", "There is no server named none in it."), ("files=", "Write: --rename OLD=NEW")],
)
def test_a_rename_that_means_nothing_is_refused(
    place: Place, tmp_path: Path, shared: str, rename: str, told: str
) -> None:
    done = place.corral("mcp", "import", shared, "--yes", "--rename", rename)
    assert (done.code, told in done.err) == (2, True)
    assert not (tmp_path / "config" / "corral" / "config.toml").exists()


def test_a_person_is_asked_for_another_name(place: Place, tmp_path: Path, shared: str) -> None:
    argv = place.command("mcp", "import", shared)
    child = pexpect.spawn(argv[0], argv[1:], env=place.env, encoding="utf-8", timeout=120)
    child.expect_exact("files is the name of a server that Corral brings.")
    child.expect_exact("Another name for files (nothing: leave it out)")
    child.sendline("python")
    child.expect_exact("python is the name of a server that Corral brings.")
    child.expect_exact("Another name for files (nothing: leave it out)")
    child.sendline("theirs")
    child.expect_exact("Add theirs?")
    child.sendline("y")
    child.expect_exact("Add near?")
    child.sendline("n")
    child.expect_exact("Added theirs.")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert own(tmp_path) == {"theirs": THEIRS["files"]}
