"""``examples/sandboxes.py``, without a key and against the stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.sandbox.e2b.service import running
from tests.sandbox.e2b.standin import KEY

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sandboxes.py"


def _run(**env: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("E2B_")}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**kept, **env},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_runs_code_in_monty() -> None:
    shown = _run().splitlines()
    assert shown[0] == "monty: apples: 12, plums: 7"
    assert "PermissionError" in shown[1]
    assert shown[2] in ("monty: timeout", "monty: error")
    assert "E2B_API_KEY" in shown[3]


def test_it_runs_code_at_e2b_when_there_is_a_key(tmp_path: Path) -> None:
    with running(tmp_path) as standin:
        shown = _run(E2B_API_KEY=KEY, E2B_API_URL=standin.url, E2B_SANDBOX_URL=standin.url)
    assert shown.splitlines()[-1] == "e2b: 45"
