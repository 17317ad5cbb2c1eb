"""What a durable step costs: one tool loop in Corral, in bare LangGraph and in other frameworks.

Corral writes every model and tool call to its journal on disk, with policy, limits and redaction
on. Everything is measured in one process, the rounds interleaved; a table has the medians. Read
the ratios to the baseline: a bare LangGraph loop that keeps nothing.

    N steps, each   (a run of N steps - a run without any) / N
    a step by then  from one model call to the next, the median of steps 6 to 15: without what
                    comes once in a run, such as Corral's snapshot of the workspace
    growth          the last ten steps of a long run against those
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench._loops import BASE, LOOPS, MISSING, VERSIONS, Laps, Loop

LONG = 200
EARLY = slice(5, 15)
LATE = slice(-11, -1)  # the last lap is the answer, which is no step


@dataclass(frozen=True)
class Cost:
    """Milliseconds, milliseconds of CPU and bytes on disk, of a run or of one step."""

    wall: float
    cpu: float
    bytes: float = 0.0

    def per_step(self, empty: Cost, steps: int) -> Cost:
        """What one of ``steps`` steps cost beyond a run without any."""
        return Cost(
            (self.wall - empty.wall) / steps,
            (self.cpu - empty.cpu) / steps,
            (self.bytes - empty.bytes) / steps,
        )


@dataclass(frozen=True)
class Measured:
    """A whole run, and the median step early and late in it."""

    run: Cost
    early: Cost
    late: Cost


def measure(loop: Loop, steps: int) -> Measured:
    """One run in a fresh folder. The bytes are those on disk once everything is closed."""
    laps = Laps()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gc.collect()
        asyncio.run(loop(folder, steps, laps))
        stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    run = Cost((laps.wall[-1] - laps.wall[0]) * 1e3, (laps.cpu[-1] - laps.cpu[0]) * 1e3, stored)
    return Measured(run, _steps(laps, EARLY), _steps(laps, LATE))


def _steps(laps: Laps, which: slice) -> Cost:
    """The median step of some; a step is from one model call to the next."""
    wall, cpu = _between(laps.wall)[which], _between(laps.cpu)[which]
    # Several steps share a garbage collection, so CPU is better told by the mean.
    return Cost(statistics.median(wall), statistics.fmean(cpu)) if wall else Cost(0, 0)


def _between(times: list[float]) -> list[float]:
    calls = times[1:-1]
    return [(after - before) * 1e3 for before, after in pairwise(calls)]


def median(costs: Iterable[Cost]) -> Cost:
    """The median of each figure by itself."""
    listed = list(costs)
    return Cost(
        statistics.median(cost.wall for cost in listed),
        statistics.median(cost.cpu for cost in listed),
        statistics.median(cost.bytes for cost in listed),
    )


def medians(steps: int, rounds: int) -> dict[str, Measured]:
    """The median run of each loop, the rounds interleaved.

    Long runs are of LangGraph and Corral alone: elsewhere a thread is not kept.
    """
    names = [name for name in LOOPS if steps < LONG or name.startswith(("StateGraph", "Corral"))]
    taken: dict[str, list[Measured]] = defaultdict(list)
    for _ in range(rounds):
        for name in names:
            taken[name].append(measure(LOOPS[name], steps))
    return {
        name: Measured(
            median(one.run for one in runs),
            median(one.early for one in runs),
            median(one.late for one in runs),
        )
        for name, runs in taken.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--rounds", type=int, default=15, help="of the short runs; fewer of long")
    parser.add_argument("--only", nargs="+", help="beginnings of the names of the loops to measure")
    arguments = parser.parse_args()
    for name in list(LOOPS):
        if arguments.only and not name.startswith((BASE, *arguments.only)):
            del LOOPS[name]
    for loop in LOOPS.values():
        measure(loop, 20)  # imports, bytecode, caches
    print(", ".join(f"{package} {number}" for package, number in VERSIONS.items()))
    if MISSING:
        print(f"not installed, so not measured: {', '.join(MISSING)} (see docs/benchmarks.md)")
    empty = medians(0, arguments.rounds)
    report("a run without a step", {name: empty[name].run for name in LOOPS})
    for steps in arguments.steps:
        runs = medians(steps, max(2, min(arguments.rounds, 3000 // steps)))
        costs = {name: runs[name].run.per_step(empty[name].run, steps) for name in runs}
        report(f"{steps} steps, each", costs)
        report("a step by then", {name: runs[name].early for name in runs})
        if steps >= LONG:
            growth(steps, runs)


def report(title: str, costs: dict[str, Cost]) -> None:
    """Print a table; ``x`` is the ratio to the baseline."""
    print(f"\n{title:32}{'ms':>8}{'x':>7}{'cpu ms':>9}{'x':>7}{'bytes':>9}")
    base = costs[BASE]
    for name, cost in costs.items():
        print(
            f"{name:32}{cost.wall:>8.2f}{cost.wall / base.wall:>7.2f}"
            f"{cost.cpu:>9.2f}{cost.cpu / base.cpu:>7.2f}{cost.bytes:>9.0f}",
            flush=True,
        )


def growth(steps: int, runs: dict[str, Measured]) -> None:
    """Print what a step costs early in a run and at its end."""
    print(f"\n{'growth with the thread':32}{'step 10':>8}{f'step {steps}':>11}{'x':>7}{'cpu x':>7}")
    for name, one in runs.items():
        print(
            f"{name:32}{one.early.wall:>8.2f}{one.late.wall:>11.2f}"
            f"{one.late.wall / one.early.wall:>7.2f}{one.late.cpu / one.early.cpu:>7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
