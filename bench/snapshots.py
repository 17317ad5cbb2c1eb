"""What keeping a workspace costs: Corral's snapshots against ``git add -A`` of the same files.

Each round makes a fresh workspace of text files and takes it through three states: as it is (the
first snapshot), unchanged, and with a few files changed. Git does the same to the same files, in a
scratch repository outside of them. Rounds are interleaved; the table shows medians, and ratios to
git at the same state. CPU is user and system time, of git's processes too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert

from corral.runtime.database import sqlite_url
from corral.runtime.migrate import open_database
from corral.runtime.sections import SnapshotConfig
from corral.runtime.snapshots.store import Snapshots
from corral.runtime.tables import threads

STATES = ("first", "unchanged", "changed")
CORRAL, GIT = "Corral", "git add -A"
SETTLE = 2.5
"""Seconds after which neither of the two reads a file again because it changed just now."""

_WORDS = [f"word{number}" for number in range(4000)]


@dataclass(frozen=True)
class Cost:
    """Seconds, seconds of CPU, and bytes on the disk in all."""

    wall: float
    cpu: float
    size: int


Step = Callable[[], Awaitable[None]]


def fill(folder: Path, files: int) -> None:
    """Text files of 0.2 to 8 KB, a hundred to a folder."""
    chance = random.Random(7)
    for number in range(files):
        path = folder / f"folder{number // 100}" / f"file{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text(chance))


def change(folder: Path, files: int) -> None:
    """Write some files anew."""
    chance = random.Random(8)
    paths = sorted(folder.rglob("*.txt"))
    for path in chance.sample(paths, files):
        path.write_text(text(chance))


def text(chance: random.Random) -> str:
    return " ".join(chance.choices(_WORDS, k=chance.randint(25, 1000)))


async def timed(step: Step, size_of: Callable[[], int]) -> Cost:
    """What a step costs."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    await step()
    return Cost(time.perf_counter() - wall, cpu_seconds() - cpu, size_of())


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])


async def git(*words: str) -> None:
    process = await asyncio.create_subprocess_exec("git", *words)
    if await process.wait() != 0:
        raise SystemExit(f"git {' '.join(words)} failed")


def size_under(folder: Path) -> int:
    """Bytes of all blocks: a small file takes a whole one."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


async def round_of(files: int, changed: int) -> dict[tuple[str, str], Cost]:
    """One workspace through all states, kept by both."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        workspace, home, repository = place / "work", place / "home", place / "repository"
        workspace.mkdir()
        home.mkdir()
        fill(workspace, files)
        await git("init", "-q", "--bare", str(repository))
        database = await open_database(sqlite_url(home / "corral.db"))
        row = {"id": "t", "title": "", "workspace": "", "created_at": "", "updated_at": ""}
        await database.write(lambda c: c.execute(insert(threads), row))
        config = SnapshotConfig(max_files=10 * files, max_total_mb=10_000)
        snapshots = Snapshots(database, str(workspace), config)

        async def keep() -> None:
            await snapshots.take("t", None)

        async def add() -> None:
            folders = (f"--git-dir={repository}", f"--work-tree={workspace}")
            await git("-C", str(workspace), *folders, "add", "-A")

        costs: dict[tuple[str, str], Cost] = {}
        for state in STATES:
            if state == "changed":
                change(workspace, changed)
            if state != "unchanged":
                await asyncio.sleep(SETTLE)
            costs[CORRAL, state] = await timed(keep, lambda: size_under(home))
            costs[GIT, state] = await timed(add, lambda: size_under(repository))
        await database.aclose()
    return costs


def report(taken: dict[tuple[str, str], list[Cost]]) -> None:
    print(f"{'state':12}{'':14}{'ms':>9}{'x':>7}{'cpu ms':>9}{'x':>7}{'MB':>9}{'x':>7}")
    for state in STATES:
        base = median(taken[GIT, state])
        for name in (GIT, CORRAL):
            cost = median(taken[name, state])
            print(
                f"{state:12}{name:14}"
                f"{cost.wall * 1000:>9.0f}{cost.wall / base.wall:>7.2f}"
                f"{cost.cpu * 1000:>9.0f}{cost.cpu / base.cpu:>7.2f}"
                f"{cost.size / 10**6:>9.1f}{cost.size / base.size:>7.2f}"
            )


def median(costs: list[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.cpu for cost in costs),
        int(statistics.median(cost.size for cost in costs)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--changed", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if shutil.which("git") is None:
        raise SystemExit("There is no git here to compare with.")
    taken: dict[tuple[str, str], list[Cost]] = defaultdict(list)
    for _ in range(arguments.rounds):
        found = asyncio.run(round_of(arguments.files, arguments.changed))
        for key, cost in found.items():
            taken[key].append(cost)
    print(
        f"{arguments.files} files, {arguments.changed} of them changed, medians of "
        f"{arguments.rounds} rounds; x: ratio to {GIT}; MB: on the disk in all\n"
    )
    report(taken)


if __name__ == "__main__":
    main()
