"""The place in which the tests of the command line run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.cli.place import SCRIPTS, Place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    home, workspace, scripts = (tmp_path / name for name in ("home", "work", "scripts"))
    workspace.mkdir()
    scripts.mkdir()
    for name, text in SCRIPTS.items():
        (scripts / f"{name}.yaml").write_text(text)
    (workspace / "orders.csv").write_text("id,total\n1,10\n2,32\n")
    for variable in list(os.environ):
        if variable.startswith("CORRAL_") or variable.endswith("_API_KEY"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("CORRAL_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(workspace)
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root, "PROMPT_TOOLKIT_NO_CPR": "1"}
    yield Place(home, workspace, scripts, env)
    structlog.reset_defaults()  # commands silence it for their process, and that is this one
