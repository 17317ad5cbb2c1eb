"""One framework in a process of its own, told line by line what to measure.

It first says what importing the framework took. Then each line of its input names a measurement,
and each line of its output is the result, as JSON. Memory is in bytes, times are in seconds.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter(), time.process_time()

from bench._overhead_sides import DONE, SIDES, Side, Tool  # noqa: E402  after the clocks

MANY = 200
"""Agents that are held at once to see what one takes."""

_TOOL = '''
{begin} tool_{name}(number: int, times: int = 2, notes: list[str] | None = None) -> int:
    """Multiply a number, tool {name} of several.

    Args:
        number: The number.
        times: By how much.
        notes: What to remember.
    """
    return number * times
'''


def tools_in(folder: Path, names: list[str], begin: str = "async def") -> list[Tool]:
    """Functions that nobody has seen yet, in a file: some frameworks read the source."""
    path = folder / f"tools_{names[0]}.py"
    path.write_text("\n".join(_TOOL.format(begin=begin, name=name) for name in names), "utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return [getattr(module, f"tool_{name}") for name in names]


def resident() -> int:
    """Bytes of memory that the process has now (proc(5))."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096


class Worker:
    """The measurements of one side."""

    def __init__(self, side: Side, folder: Path) -> None:
        self._side = side
        self._folder = folder
        self._numbers = count()
        self._one = self._tools(1)
        self._twenty = self._tools(20)
        self._agent = side.make(self._one)
        side.make(self._twenty)

    def _tools(self, number: int) -> list[Tool]:
        begin = "async def" if self._side.takes_coroutines else "def"
        return tools_in(self._folder, [str(next(self._numbers)) for _ in range(number)], begin)

    async def run(self) -> dict[str, float]:
        """One run."""
        began, cpu = time.perf_counter(), time.process_time()
        answer = await self._side.run(self._agent)
        took, used = time.perf_counter() - began, time.process_time() - cpu
        if answer != DONE:
            raise RuntimeError(f"the answer is {answer!r}")
        return {"wall": took, "cpu": used}

    def build(self) -> dict[str, float]:
        """CPU: an agent with 1 and with 20 tools, and one with 20 that nobody has seen before."""
        new = self._tools(20)
        return {
            "one": self._timed(self._one),
            "twenty": self._timed(self._twenty),
            "new": self._timed(new),
        }

    def _timed(self, tools: list[Tool]) -> float:
        began = time.process_time()
        self._side.make(tools)
        return time.process_time() - began

    def memory(self) -> dict[str, float]:
        """The process, and what one of many agents with the same tool takes."""
        gc.collect()
        before = resident()
        held = [self._side.make(self._one) for _ in range(MANY)]
        gc.collect()
        return {"rss": before, "agent": (resident() - before) / len(held)}


async def measure(side: Side) -> None:
    """Answer the lines of the input, until it ends."""
    with tempfile.TemporaryDirectory() as name:
        await side.start(Path(name))
        try:
            worker = Worker(side, Path(name))
            told: dict[str, Callable[[], Any]] = {"build": worker.build, "memory": worker.memory}
            for line in sys.stdin:
                wanted = line.strip()
                tell(await worker.run() if wanted == "run" else told[wanted]())
        finally:
            await side.stop()


def tell(result: dict[str, float]) -> None:
    """Say a result. What a framework prints goes elsewhere."""
    print(json.dumps(result), file=sys.__stdout__, flush=True)


def main() -> None:
    sys.stdout = sys.stderr
    side = SIDES[sys.argv[1]]()
    side.load()
    wall, cpu = BEGAN
    tell({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "rss": resident()})
    asyncio.run(measure(side))


if __name__ == "__main__":
    main()
