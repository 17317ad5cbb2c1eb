"""How long Corral takes to start: ``corral --help``, ``corral chat`` up to its first prompt, and
servers on standard input and output up to the answer which tools they have.

Each round runs every case once, one after another, so that whatever else the machine does falls on
all of them alike. Read the ratios; the milliseconds are this machine's. CPU is user and system time
of the process and of what it had waited for; for the chat, up to the prompt; for a server, of all
its processes up to the answer, with the run host where ``no host`` says that it is started first.
The tool servers' starts are remembered from the round that is not counted, as a client finds them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pexpect

from bench._mcp_clients import HELLO, Usage, request
from bench._mcp_sides import Place

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


def first_answer(place: Place, *argv: str) -> Callable[[dict[str, str]], Timing]:
    """A case: a server on standard input and output, until it has said which tools it has."""

    def measure(env: dict[str, str]) -> Timing:
        start = time.perf_counter()
        with subprocess.Popen(
            argv,
            env=env | place.own,
            cwd=place.workspace,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            for number, method, params in ((1, "initialize", HELLO), (2, "tools/list", {})):
                _ask(process, number, method, params)
            wall = time.perf_counter() - start
            timing = Timing(wall, Usage([process.pid, *place.hosts()]).cpu())
        _end_hosts(place)
        return timing

    return measure


def _ask(process: subprocess.Popen[str], number: int, method: str, params: Any) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request(number, method, params)) + "\n")
    process.stdin.flush()
    for line in process.stdout:
        if json.loads(line).get("id") == number:
            return
    raise SystemExit("a server has ended without an answer")


def _end_hosts(place: Place) -> None:
    for host in place.hosts():
        os.kill(host, signal.SIGTERM)
    while place.hosts():
        time.sleep(0.02)


def _cpu_of(pid: int) -> float:
    """CPU seconds so far: fields 14 to 17 of proc(5)'s stat, its children's that ended included."""
    after_name = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return sum(map(int, after_name[11:15])) / os.sysconf("SC_CLK_TCK")


PYTHON = "python -c pass"
LANGGRAPH = "import langgraph.graph"


def cases(place: Place) -> dict[str, Callable[[dict[str, str]], Timing]]:
    """All that is started, by name."""
    found = {
        PYTHON: command(sys.executable, "-c", "pass"),
        LANGGRAPH: command(sys.executable, "-c", "import langgraph.graph"),
        "corral --help": command(CORRAL, "--help"),
        "corral chat, first prompt": first_prompt,
        "SDK MCPServer": first_answer(
            place, sys.executable, "-m", "bench._mcp_server", "sdk", "stdio"
        ),
    }
    for what in ("files", "python", "shell", "web", "sql", "git"):
        found[f"corral mcp serve {what}"] = first_answer(place, CORRAL, "mcp", "serve", what)
    reaching = replace(place, reaches=("example.org",))
    found["... web that may reach a host"] = first_answer(reaching, CORRAL, "mcp", "serve", "web")
    found["... agents, no host"] = first_answer(place, CORRAL, "mcp", "serve", "agents")
    return found


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
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder, "work"), Path(folder, "home"))
        place.make()
        for number in range(rounds + 1):
            for name, measure in cases(place).items():
                timing = measure(env)
                if number:
                    taken[name].append(timing)
    report(taken, rounds)


def report(taken: dict[str, list[Timing]], rounds: int) -> None:
    wall = {name: statistics.median(t.wall for t in timings) for name, timings in taken.items()}
    cpu = {name: statistics.median(t.cpu for t in timings) for name, timings in taken.items()}
    print(f"medians of {rounds} interleaved rounds; x: ratio to {PYTHON}; lg: to {LANGGRAPH}\n")
    print(f"{'':32}{'wall ms':>9}{'x':>8}{'lg':>7}{'cpu ms':>10}{'x':>8}{'lg':>7}")
    for name in taken:
        cells = [
            f"{values[name] * 1000:>{width}.0f}{values[name] / values[PYTHON]:>8.1f}"
            f"{values[name] / values[LANGGRAPH]:>7.2f}"
            for values, width in ((wall, 9), (cpu, 10))
        ]
        print(f"{name:32}{''.join(cells)}")


if __name__ == "__main__":
    main()
