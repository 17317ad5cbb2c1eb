"""The place in which the tests of the command line run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.place import SCRIPTS, Place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
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
    monkeypatch.setenv("CORRAL_SANDBOX", os.environ.get("TMPSB", "bubblewrap"))
    monkeypatch.chdir(workspace)
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root, "PROMPT_TOOLKIT_NO_CPR": "1"}
    return Place(home, workspace, scripts, env)
