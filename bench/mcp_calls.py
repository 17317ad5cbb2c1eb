"""What a call of a tool costs by MCP: Corral's servers beside the SDK's, Node's and fastmcp's.

All are driven by the same light clients of our own, in turn in every round, so that what differs is
the server; a table has the medians over the rounds.

    start     milliseconds from the command to the answer of the first call; of the agents' server
              with its run host there already, as it is after the first client of the day
    p50, p99  milliseconds of a call, one after the other
    cpu       milliseconds of processor time that the server and all its processes use for a call
    memory    megabytes of all its processes, each page once (with the run host, where there is one)
    calls/s   with 100 calls under way

The call is the cheapest that each has: ``echo``; Corral's ``files`` reads a file and its ``agents``
looks a run up in the database. In process, Corral's tools are called by the pool, without a wire.
Needs Linux, and for Node and fastmcp what ``scripts/interop.sh`` installs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from bench._mcp_clients import Connection, Piped, now
from bench._mcp_sides import FASTMCP, LIST, PROJECT, Place, Side, running, sides

Figures = dict[str, float]
COLUMNS = ("start", "p50", "p99", "cpu", "memory", "calls/s")
CONCURRENT = 100
WARM_UP = 50


async def measure(side: Side, place: Place, calls: int) -> Figures:
    """One server, from its start to its end."""
    tool, args = side.call
    async with running(side, place) as server:
        call = server.connection.call
        for _ in range(WARM_UP):
            await call(tool, args)
        taken, cpu = [], server.usage.cpu()
        for _ in range(calls):
            begun = now()
            await call(tool, args)
            taken.append((now() - begun) * 1000)
        cpu = (server.usage.cpu() - cpu) / calls * 1000
        return {
            "start": server.start * 1000,
            **percentiles(taken),
            "cpu": cpu,
            "memory": server.usage.memory(),
            "calls/s": await _rate(server.connection, side, calls),
        }


async def _rate(connection: Connection, side: Side, calls: int) -> float:
    """Calls a second with 100 under way."""
    left = calls

    async def some() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await connection.call(*side.call)

    begun = now()
    await asyncio.gather(*(some() for _ in range(CONCURRENT)))
    return calls / (now() - begun)


def percentiles(taken: Sequence[float]) -> Figures:
    """The median and the 99th percentile."""
    return {"p50": statistics.median(taken), "p99": statistics.quantiles(taken, n=100)[98]}


def inside(calls: int) -> dict[str, Figures]:
    """Each library in a process of its own, calling its own tool there."""
    found = {}
    for name, side, python in _INSIDE:
        if not Path(python).exists():
            continue
        command = [str(python), "-m", "bench._mcp_inside", side, str(calls)]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
        said = json.loads(done.stdout)
        found[name] = {**percentiles(said["taken"]), "cpu": said["cpu"], "calls/s": said["rate"]}
    return found


_INSIDE = (
    ("Corral, the pool", "corral", sys.executable),
    ("SDK, in memory", "sdk", sys.executable),
    ("fastmcp, in memory", "fastmcp", FASTMCP),
)


async def measure_all(place: Place, rounds: int, calls: int) -> dict[str, dict[str, Figures]]:
    """The medians by way and server; the servers take turns."""
    taken: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    # The first start writes bytecode, and starts the run host that the others find.
    warm = await Piped.start(
        [sys.executable, "-m", "corral", "mcp", "serve", "agents"], place.env, place.workspace
    )
    await warm.call(*LIST)
    all_sides = sides()
    for number in range(rounds):
        for side in all_sides:
            print(f"round {number + 1}: {side.way} {side.name}", file=sys.stderr, flush=True)
            taken[side.way, side.name].append(await measure(side, place, calls))
    await warm.close()
    ways: dict[str, dict[str, Figures]] = defaultdict(dict)
    for (way, name), figures in taken.items():
        ways[way][name] = {
            column: statistics.median(one[column] for one in figures) for column in figures[0]
        }
    return ways


def show(title: str, sides_: dict[str, Figures]) -> None:
    """One table, with the ratio of a call's processor time to that of the SDK."""
    sdk = next((one["cpu"] for name, one in sides_.items() if name.startswith("SDK")), None)
    print(f"\n{title:<26}" + "".join(f"{column:>10}" for column in (*COLUMNS, "cpu/SDK")))
    for name, figures in sides_.items():
        cells = [figures.get(column) for column in COLUMNS]
        ratio = figures["cpu"] / sdk if sdk else None
        print(f"{name:<26}" + "".join(map(_cell, [*cells, ratio])))


def _cell(value: float | None) -> str:
    if value is None:
        return f"{'':>10}"
    return f"{value:>10,.0f}" if value >= 100 else f"{value:>10.2f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=1000, help="of each kind, for each server")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder, "work"), Path(folder, "home"))
        place.make()
        ways = asyncio.run(measure_all(place, asked.rounds, asked.calls))
    for way, title in (("stdio", "stdio"), ("http", "streamable HTTP")):
        show(title, ways[way])
    show("in process", inside(asked.calls))


if __name__ == "__main__":
    main()
