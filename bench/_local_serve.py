"""The loop of a side of ``bench/local.py`` that has a process of its own.

Its first line of output says what it is; then it reads requests and writes answers, one JSON object
a line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench._local_ask import Answer, Ask, Setup


@dataclass(frozen=True)
class Opened:
    """A side as its process has it; ``facts`` are for the report."""

    ask: Callable[[Ask], Awaitable[Answer]]
    close: Callable[[], Awaitable[None]]
    facts: dict[str, str]


def main(open_side: Callable[[Setup], Opened]) -> None:
    """Serve until the input ends; the program's argument is the ``Setup``."""
    asyncio.run(_serve(open_side(Setup(**json.loads(sys.argv[1])))))


async def _serve(side: Opened) -> None:
    print(json.dumps(side.facts), flush=True)
    under_way: set[asyncio.Task[None]] = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        task = asyncio.create_task(_answer(side, json.loads(line)))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    await side.close()


async def _answer(side: Opened, line: dict[str, Any]) -> None:
    try:
        answer: dict[str, Any] = {"answer": asdict(await side.ask(Ask(**line["ask"])))}
    except Exception as error:  # noqa: BLE001  # the border of the process: the asker is told
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps({"id": line["id"]} | answer), flush=True)
