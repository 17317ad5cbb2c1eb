"""The stand-in as a process of its own, and what tests want of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.sandbox.backends.e2b.backend import E2BBackend
from corral.sandbox.backends.e2b.service import E2BOptions
from tests.sandbox.e2b.standin import KEY

_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class StandIn:
    """A running stand-in."""

    url: str

    def options(self, **changes: Any) -> E2BOptions:
        found = {"api_key": KEY, "api_url": self.url, "sandbox_url": self.url, **changes}
        return E2BOptions(**found)

    def backend(self, **changes: Any) -> E2BBackend:
        return E2BBackend(self.options(**changes))

    def fail(self, path: str, times: int = 1, **how: Any) -> None:
        """Make the next requests for a path (a regular expression) fail.

        ``status`` and ``says`` answer so, ``cut`` breaks off after some pieces, ``slow`` waits.
        """
        fault = {"path": path, "times": times, "says": "no", **how}
        request = urllib.request.Request(f"{self.url}/-/faults", json.dumps(fault).encode())
        urllib.request.urlopen(request).close()

    def requests(self) -> list[dict[str, Any]]:
        """All requests until now."""
        with urllib.request.urlopen(f"{self.url}/-/requests") as answer:
            found: list[dict[str, Any]] = json.load(answer)
            return found


@contextmanager
def running(folder: Path) -> Iterator[StandIn]:
    """A stand-in for a while; all that it has started ends with it."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sandbox.e2b.standin", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    ) as process:
        assert process.stdout is not None
        yield StandIn(f"http://127.0.0.1:{int(process.stdout.readline())}")
        process.communicate(timeout=30)
    assert process.returncode == 0
