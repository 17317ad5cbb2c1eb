"""A person at a shell: a home, a workspace, scripts for the model, and the command ``corral``.

``corral`` starts the real command in a process of its own; ``quick`` forks one from a server that
has imported Corral already, which is another process all the same and costs a tenth.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corral.sandbox.host import find_bubblewrap
from tests import forked

ROOT = Path(__file__).parents[2]
HOSTILE = ROOT / "tests" / "tools" / "servers" / "hostile.py"
SECONDS = 90.0
"""How long a command may take before its test fails."""

Turn = Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """What a command left behind; ``peak`` is the most memory that it held, in MiB."""

    code: int
    out: str
    err: str
    peak: float = 0.0

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Standard output as JSON objects, one a line; anything else there is an error."""
        found = [json.loads(line) for line in self.out.splitlines()]
        assert all(isinstance(each, dict) for each in found)
        return found

    @property
    def last(self) -> dict[str, Any]:
        """The last line: of ``run --json`` the result."""
        return self.lines[-1]

    def says(self, *words: str) -> None:
        """Assert that it failed in words, with what to do next, and without a traceback."""
        assert self.code not in (0, -9), self
        assert "Traceback" not in self.out + self.err, self.err
        assert "unexpected" not in self.err, self.err
        assert re.search(r"(?ms)^error: \S.*^  \S", self.err), f"no hint: {self.err}"
        for word in words:
            assert word in self.err, f"{word!r} is not in {self.err}"


@dataclass(frozen=True)
class Shell:
    """Where commands run. ``wrapper`` is put before the command, for example bubblewrap."""

    home: Path
    workspace: Path
    env: Mapping[str, str]
    wrapper: tuple[str, ...] = ()

    def under(self, *wrapper: str, **env: str) -> Shell:
        """The same place, with another command in front or other variables."""
        return replace(self, wrapper=wrapper, env={**self.env, **env})

    def argv(self, *args: str) -> list[str]:
        return [*self.wrapper, sys.executable, "-m", "corral.cli", *args]

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Start a command and leave it running, with pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.argv(*args), env=self.env, cwd=self.workspace, text=True, stdout=pipe, stderr=pipe
        )

    def corral(self, *args: str) -> Result:
        """Run one command as a person would."""
        return self.program(self.argv(*args))

    def program(self, argv: Sequence[str]) -> Result:
        """Run any program here and measure it."""
        out, err = self._outputs()
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(
                argv, env=self.env, cwd=self.workspace, stdout=stdout, stderr=stderr
            )
            peak = 0.0

            def ended() -> bool:
                nonlocal peak
                # Its own memory: what wait4 tells is the most of any of its descendants too.
                peak = max(peak, _most_memory(process.pid))
                return process.poll() is not None

            try:
                until(ended, SECONDS)
            finally:
                process.kill()
        return Result(process.wait(), out.read_text(), err.read_text(), peak)

    def quick(self, *args: str) -> Result:
        """Run one command in a process that is forked from one with Corral imported."""
        assert not self.wrapper
        out, err = self._outputs()
        place = forked.Place(dict(self.env), str(self.workspace), str(out), str(err))
        code = forked.corral(args, place, SECONDS)
        assert code is not None, f"{args} did not end: {err.read_text()}"
        return Result(code, out.read_text(), err.read_text())

    def model(self, name: str, *turns: Turn) -> str:
        """A scripted model with these turns, as ``--model`` takes it."""
        path = self.home.parent / f"{name}.yaml"
        path.write_text(json.dumps(turns))
        return f"scripted:{path}"

    def configure(self, text: str) -> None:
        """Write the project's ``corral.toml``."""
        (self.workspace / "corral.toml").write_text(text)

    def own(self, text: str) -> None:
        """Write the user's own configuration file."""
        path = Path(self.env["XDG_CONFIG_HOME"]) / "corral" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def trace(self, run: str, kind: str = "") -> list[dict[str, Any]]:
        """The journal of a run, or its entries of one kind."""
        shown = self.quick("trace", run, "--json")
        assert shown.code == 0, shown.err
        return [entry for entry in shown.lines if kind in ("", entry["kind"])]

    def runs(self) -> list[dict[str, Any]]:
        """All runs, newest first."""
        shown = self.quick("runs", "--json")
        assert shown.code == 0, shown.err
        return shown.lines

    def _outputs(self) -> tuple[Path, Path]:
        folder = self.home.parent
        return folder / "stdout.txt", folder / "stderr.txt"


def turn(text: str = "", **calls: Mapping[str, Any]) -> Turn:
    """A turn of a script: ``turn("Look.", files__read_file={"path": "a"})``."""
    made = [{"name": name, "args": args} for name, args in calls.items()]
    return {"text": text, **({"tool_calls": made} if made else {})}


def bubblewrap() -> tuple[str, ...]:
    """A bubblewrap that shows everything as it is; options that change it may follow."""
    return (str(find_bubblewrap().program), "--dev-bind", "/", "/")


def until(true: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait for something that can be observed."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


Process = tuple[int, str]
"""A process by its id and when it started: ids are used again."""


def descendants(pid: int) -> list[Process]:
    """Everything that a process has started, and what that has started."""
    started: dict[int, list[Process]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        state, parent, *_, when = _stat(int(entry.name))
        if state not in "ZX":
            started.setdefault(int(parent), []).append((int(entry.name), when))
    found = list(started.get(pid, ()))
    for child, _ in found:
        found += started.get(child, ())
    return found


def alive(process: Process) -> bool:
    """Whether it still runs; one that only waits to be reaped does not."""
    state, *_, when = _stat(process[0])
    return state not in "ZX" and when == process[1]


def processes_with(mark: str) -> list[str]:
    """The command lines of the living processes that hold ``mark`` in theirs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue  # it ended while it was being read
        if mark in line and _stat(int(entry.name))[0] not in "ZX":
            found.append(line)
    return found


def _stat(pid: int) -> list[str]:
    """A process's state, its parent, …, and last when it started."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return ["X", "0", ""]
    return text.rpartition(")")[2].split()[:20]


def _most_memory(pid: int) -> float:
    """The most memory that a running process has held so far, in MiB; 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0
