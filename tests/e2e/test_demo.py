"""``make demo``: the main job on the bundled model, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"


@pytest.mark.slow
def test_the_demo_does_what_it_says() -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for shown in ("kill -9", "pending", "nine in the morning"):
        assert shown in done.stdout
    assert '"status": "identical"' in done.stdout
