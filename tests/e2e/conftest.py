"""The shell in which the end-to-end tests run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.shell import ROOT, Shell


@pytest.fixture
def shell(own_home: Path, workspace: Path) -> Shell:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    (workspace / "orders.csv").write_text("id,total\n1,10\n2,32\n")
    return Shell(own_home, workspace, env)
