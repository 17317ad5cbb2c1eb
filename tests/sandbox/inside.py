"""Run a piece of Python in a sandbox, and find out from outside what is left of it."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from corral.sandbox import host
from corral.sandbox.contract import Grant, Limits, LocalBackend, Profile
from corral.sandbox.registry import select_backend


@dataclass
class Inside:
    """A sandbox over one writable folder. ``token`` stands in the command line of every process
    that starts as a fork of the first one.
    """

    folder: Path
    backend: LocalBackend = field(default_factory=select_backend)
    limits: Limits = field(default_factory=Limits)
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    def profile(self, **changes: Any) -> Profile:
        plain = Profile((Grant(self.folder, writable=True),), self.folder, limits=self.limits)
        return replace(plain, **changes)

    @contextmanager
    def start(self, code: str, **changes: Any) -> Iterator[subprocess.Popen[str]]:
        """The launcher, running; killed at the end if it still does."""
        command = (str(host.interpreter()), "-I", "-S", "-c", code, self.token)
        launch = self.backend.launch(command, self.profile(**changes))
        with subprocess.Popen(
            launch.argv,
            env=dict(launch.env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, code: str, **changes: Any) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        with self.start(code, **changes) as process:
            out, err = process.communicate(timeout=60)
            return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def answer(self, code: str, **changes: Any) -> Any:
        """Run to a good end; what it printed, as JSON."""
        done = self.run(code, **changes)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def alive(self) -> list[int]:
        """The processes on the host that run the code."""
        return [pid for pid in _processes() if self.token in _command_line(pid)]


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _command_line(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_text(errors="replace")
    except OSError:
        return ""


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 15.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for: {what}"
        time.sleep(0.01)
