"""Processes forked from one that has imported and warmed up what tests need, once for them all.

Such a process is one of its own, and starts in a tenth of the time that importing Corral takes.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    [
        "pytest",  # what the main module of a test run imports, each child would too
        "alembic.command",
        "anyio._backends._asyncio",
        "corral.agents.app",
        "corral.cli.follow",
        "corral.cli.main",
        "corral.tools.stdio_transport",
        "tests.runtime.crash_warm",
    ]
)


def start(target: Callable[..., object], *args: Any) -> ForkServerProcess:
    """Start ``target`` in such a process."""
    ensure_running()
    process = _processes.Process(target=target, args=args)
    process.start()
    return process


def ensure_running() -> None:
    """Start the server. It looks for ``tests`` where it is started, and a test may be anywhere."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
