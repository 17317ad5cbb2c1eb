"""``examples/patterns.py``, as its page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "patterns.py"


def test_it_shows_both_levels_and_replays(workspace: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=workspace,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "agent_started: lead > author",
        "agent_started: lead > author > critic",
        "agent_finished: lead > author > critic",
        "agent_started: lead > author > critic",
        "agent_finished: lead > author > critic",
        "agent_finished: lead > author",
        "completed after 6 model calls: Here it is: The ship carries grain to the islands.",
        "replay: identical",
    ]
