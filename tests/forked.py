"""Processes forked from one that has imported and warmed up what tests need, once for them all.

Such a process is one of its own, and starts in a tenth of the time that importing Corral takes.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Place:
    """Where a command runs, and the files that get what it says; both may be the same one."""

    env: dict[str, str]
    folder: str
    out: str
    err: str


def corral(args: Sequence[str], place: Place, seconds: float) -> int | None:
    """Run the command ``corral`` in such a process; its exit code, ``None``: it did not end."""
    for path in (place.out, place.err):
        Path(path).write_bytes(b"")
    process = start(_corral, args, place)
    process.join(seconds)
    code = process.exitcode
    if code is None:
        process.kill()
    return code


def _corral(args: Sequence[str], place: Place) -> None:
    os.environ.clear()
    os.environ.update(place.env)
    os.chdir(place.folder)
    for number, path in ((1, place.out), (2, place.err)):
        target = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(target, number)
        os.close(target)
    sys.argv = ["corral", *args]
    from corral.cli.main import main

    main()


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
