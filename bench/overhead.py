"""What an agent costs in Corral with everything on, beside bare LangGraph and other frameworks.

The same scripted model and the same tools in each, each in a process of its own, the rounds
interleaved; a table has the medians, and ``x`` is the ratio to a bare ``StateGraph``. Corral keeps
the run in a SQLite file, with policy, budgets, provenance, redaction and trace; the others keep
nothing. The peers are installed by uv into an environment of their own, in the user's cache.

    run        10 steps, each a model call and a tool call, and the answer
    build      CPU of making an agent that is ready to run: with 1 tool, with 20 functions that it
               has had before, and with 20 that it has not
    import     of the framework, in a new process
    memory     of the process after that, and of one of many agents with the same tool
    supervisor wall time of a run with workers in parallel, against its longest chain of calls

``Corral`` says that its tool only reads, ``Corral, flush a call`` says nothing: then the start of
each call is flushed to the disk before it is made, and the workspace is kept once a run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench._overhead_corral import supervised
from bench._overhead_peers import PROJECT, peers
from bench._overhead_sides import BASE, PACKAGES, SIDES

Figures = dict[str, float]
WARM_UP = 3
WORKERS = 8


@dataclass
class Process:
    """A worker that is running: what it says of its start, and its answers one by one."""

    running: subprocess.Popen[str]
    started: Figures

    @classmethod
    def start(cls, python: str, side: str) -> Process:
        command = [python, "-m", "bench._overhead_worker", side]
        running = subprocess.Popen(
            command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return cls(running, _read(running))

    def ask(self, measurement: str) -> Figures:
        assert self.running.stdin is not None
        self.running.stdin.write(f"{measurement}\n")
        self.running.stdin.flush()
        return _read(self.running)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_error: object) -> None:
        assert self.running.stdin is not None
        self.running.stdin.close()
        self.running.wait()


def _read(running: subprocess.Popen[str]) -> Figures:
    assert running.stdout is not None
    line = running.stdout.readline()
    if not line:
        raise SystemExit("A worker has ended; what it says of that stands above.")
    figures: Figures = json.loads(line)
    return figures


def measure(pythons: dict[str, str], rounds: int, imports: int) -> dict[str, dict[str, Figures]]:
    """The medians by measurement and side; the sides take turns in every round."""
    taken: dict[str, dict[str, list[Figures]]] = defaultdict(lambda: defaultdict(list))
    for number in range(imports + 1):
        for name, python in pythons.items():
            with Process.start(python, name) as process:
                if number:  # the first writes bytecode
                    taken["import"][name].append(process.started)
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(Process.start(python, name))
            for name, python in pythons.items()
        }
        for number in range(WARM_UP + rounds):
            for name, process in processes.items():
                ran = process.ask("run")
                if number >= WARM_UP:
                    taken["run"][name].append(ran)
                    taken["build"][name].append(process.ask("build"))
        for name, process in processes.items():
            taken["memory"][name].append(process.ask("memory"))
    return {
        what: {name: _median(figures) for name, figures in sides.items()}
        for what, sides in taken.items()
    }


def _median(taken: Sequence[Figures]) -> Figures:
    return {key: statistics.median(one[key] for one in taken) for key in taken[0]}


@dataclass(frozen=True)
class Column:
    """A figure of each side, and its ratio to the baseline's if that is wanted."""

    title: str
    of: Callable[[str], float]
    ratio: bool = False
    digits: int = 2

    def head(self) -> str:
        return f"{self.title:>10}{'x':>7}" if self.ratio else f"{self.title:>10}"

    def cell(self, name: str) -> str:
        value = self.of(name)
        figure = f"{value:>10.{self.digits}f}"
        return f"{figure}{value / self.of(BASE):>7.2f}" if self.ratio else figure


def report(names: Iterable[str], columns: Sequence[Column]) -> None:
    """Print a table; a peer that is not installed is named in it."""
    print(f"\n{'':22}{''.join(column.head() for column in columns)}")
    for name in SIDES:
        cells = "".join(column.cell(name) for column in columns) if name in names else "   missing"
        print(f"{name:22}{cells}", flush=True)


def tables(found: dict[str, dict[str, Figures]]) -> None:
    """Print all that was measured."""

    def of(what: str, key: str, unit: float) -> Callable[[str], float]:
        return lambda name: found[what][name][key] / unit

    ms, mib = 1e-3, 2**20
    names = found["run"]
    report(
        names,
        [
            Column("run ms", of("run", "wall", ms), ratio=True),
            Column("cpu ms", of("run", "cpu", ms), ratio=True),
            Column("build 1", of("build", "one", ms)),
            Column("build 20", of("build", "twenty", ms)),
            Column("20 new", of("build", "new", ms)),
        ],
    )
    report(
        names,
        [
            Column("import ms", of("import", "wall", ms), ratio=True, digits=0),
            Column("cpu ms", of("import", "cpu", ms), ratio=True, digits=0),
            Column("MiB", of("memory", "rss", mib), ratio=True, digits=0),
            Column("agent KiB", of("memory", "agent", 2**10), digits=1),
            Column("% of MiB", _share(found["memory"]), digits=3),
        ],
    )


def _share(memory: dict[str, Figures]) -> Callable[[str], float]:
    """What one agent takes, as a share of its process."""
    return lambda name: 100 * memory[name]["agent"] / memory[name]["rss"]


def supervisor(delay: float, rounds: int) -> None:
    """Print how near parallel workers come to their longest chain."""
    took = statistics.median(asyncio.run(supervised(WORKERS, delay)) for _ in range(rounds))
    print(f"\na supervisor with {WORKERS} workers, each model call {delay:g} s:")
    print(f"wall {took:.3f} s, longest chain {3 * delay:.3f} s, x {took / (3 * delay):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--imports", type=int, default=5, help="rounds of the import")
    parser.add_argument("--delay", type=float, default=0.5, help="seconds of a worker's model call")
    parser.add_argument("--only", nargs="+", choices=list(SIDES), help="sides beside the baseline")
    parser.add_argument("--no-install", action="store_true", help="of peers: take what is there")
    arguments = parser.parse_args()
    there = peers(install=not arguments.no_install)
    pythons = {name: there.get(name, sys.executable) for name in SIDES}
    wanted = {BASE, *(arguments.only or SIDES)}
    chosen = {
        name: python
        for name, python in pythons.items()
        if name in wanted and (name in there or name not in PACKAGES)
    }
    tables(measure(chosen, arguments.rounds, arguments.imports))
    supervisor(arguments.delay, max(1, arguments.rounds // 5))


if __name__ == "__main__":
    main()
