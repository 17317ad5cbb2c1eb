"""The place in which the tests of the command line run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.cli.place import SCRIPTS, Place


@pytest.fixture
def new_place(
    own_home: Path, tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A place where Corral has never been."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name, text in SCRIPTS.items():
        (scripts / f"{name}.yaml").write_text(text)
    (workspace / "orders.csv").write_text("id,total\n1,10\n2,32\n")
    monkeypatch.setenv("NO_COLOR", "1")
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root, "PROMPT_TOOLKIT_NO_CPR": "1"}
    yield Place(own_home, workspace, scripts, env)
    structlog.reset_defaults()  # commands silence it for their process, and that is this one


@pytest.fixture
def place(home: Path, new_place: Place) -> Place:
    """A place where Corral has been: its database is there."""
    return new_place
