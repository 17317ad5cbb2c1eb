"""How long Corral takes to start: ``corral --help`` and ``corral chat`` up to its first prompt.

Each round runs every case once, one after another, so that whatever else the machine does falls on
all of them alike. Read the ratios; the milliseconds are this machine's. CPU is user and system time
of the process and of what it had waited for; for the chat, up to the prompt.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pexpect

PROMPT = "»"
CORRAL = str(Path(sys.executable).with_name("corral"))


@dataclass(frozen=True)
class Timing:
    """Seconds of one start."""

    wall: float
    cpu: float


def command(*argv: str) -> Callable[[dict[str, str]], Timing]:
    """A case: a command that runs to its end."""

    def measure(env: dict[str, str]) -> Timing:
        start = time.perf_counter()
        process = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(argv)} ended with {process.returncode}")
        return Timing(wall, usage.ru_utime + usage.ru_stime)

    return measure


def first_prompt(env: dict[str, str]) -> Timing:
    """A case: ``corral chat`` in a terminal, until it can be typed to."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        child = pexpect.spawn(
            CORRAL,
            ["chat", "--model", "local"],
            env={**env, "CORRAL_HOME": f"{folder}/home"},
            cwd=folder,
            encoding="utf-8",
            timeout=60,
            dimensions=(40, 120),
        )
        child.expect_exact(PROMPT)
        assert child.pid is not None
        timing = Timing(time.perf_counter() - start, _cpu_of(child.pid))
        child.sendeof()
        child.expect(pexpect.EOF)
        child.close()
        return timing


def _cpu_of(pid: int) -> float:
    """CPU seconds so far: fields 14 to 17 of proc(5)'s stat, its children's that ended included."""
    after_name = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return sum(map(int, after_name[11:15])) / os.sysconf("SC_CLK_TCK")


PYTHON = "python -c pass"
LANGGRAPH = "import langgraph.graph"
CASES: dict[str, Callable[[dict[str, str]], Timing]] = {
    PYTHON: command(sys.executable, "-c", "pass"),
    LANGGRAPH: command(sys.executable, "-c", "import langgraph.graph"),
    "corral --help": command(CORRAL, "--help"),
    "corral chat, first prompt": first_prompt,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    # Nobody runs it without bytecode; a first round, not counted, writes what is missing.
    dropped = ("PYTHONDONTWRITEBYTECODE", "CORRAL_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    # pexpect is a terminal that does not answer where its cursor is; a real one does, at once.
    env |= {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}
    taken: dict[str, list[Timing]] = defaultdict(list)
    for number in range(rounds + 1):
        for name, measure in CASES.items():
            timing = measure(env)
            if number:
                taken[name].append(timing)
    report(taken, rounds)


def report(taken: dict[str, list[Timing]], rounds: int) -> None:
    wall = {name: statistics.median(t.wall for t in timings) for name, timings in taken.items()}
    cpu = {name: statistics.median(t.cpu for t in timings) for name, timings in taken.items()}
    print(f"medians of {rounds} interleaved rounds; x: ratio to {PYTHON}; lg: to {LANGGRAPH}\n")
    print(f"{'':28}{'wall ms':>9}{'x':>8}{'lg':>7}{'cpu ms':>10}{'x':>8}{'lg':>7}")
    for name in taken:
        cells = [
            f"{values[name] * 1000:>{width}.0f}{values[name] / values[PYTHON]:>8.1f}"
            f"{values[name] / values[LANGGRAPH]:>7.2f}"
            for values, width in ((wall, 9), (cpu, 10))
        ]
        print(f"{name:28}{''.join(cells)}")


if __name__ == "__main__":
    main()
