"""Calls of a tool in the process that has it, as one line of JSON: milliseconds each, and calls/s.

python -m bench._mcp_inside corral|sdk|fastmcp CALLS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Call = Callable[[], Awaitable[object]]
CONCURRENT = 100


@asynccontextmanager
async def corral_tool() -> AsyncIterator[Call]:
    """A Python function of an agent's own, by the pool: checked arguments, bounded result."""
    from corral.tools.contract import CallOptions
    from corral.tools.functions import FunctionTools
    from corral.tools.pool import ToolPool

    async def echo(message: str) -> str:
        """Say it again."""
        return message

    pool = ToolPool([FunctionTools("functions", [echo])], max_chars=100_000)
    spec = (await pool.catalog()).tools[0]
    options = CallOptions("bench")
    yield lambda: pool.call(spec, {"message": "hello"}, options)
    await pool.aclose()


@asynccontextmanager
async def sdk_tool() -> AsyncIterator[Call]:
    """The SDK's own client and server in memory."""
    from mcp import Client

    from bench._mcp_server import made

    async with Client(made("sdk")) as client:
        yield lambda: client.call_tool("echo", {"message": "hello"})


@asynccontextmanager
async def fastmcp_tool() -> AsyncIterator[Call]:
    """Those of fastmcp."""
    from fastmcp import Client

    from bench._mcp_server import made

    async with Client(made("fastmcp")) as client:
        yield lambda: client.call_tool("echo", {"message": "hello"})


SIDES = {"corral": corral_tool, "sdk": sdk_tool, "fastmcp": fastmcp_tool}


async def measured(side: str, calls: int) -> dict[str, object]:
    """One after the other, and then many at once."""
    async with SIDES[side]() as call:
        for _ in range(50):
            await call()
        taken, cpu = [], time.process_time()
        for _ in range(calls):
            begun = time.perf_counter()
            await call()
            taken.append((time.perf_counter() - begun) * 1000)
        cpu = (time.process_time() - cpu) / calls * 1000
        begun, rounds = time.perf_counter(), max(1, calls // CONCURRENT)
        for _ in range(rounds):
            await asyncio.gather(*(call() for _ in range(CONCURRENT)))
        rate = rounds * CONCURRENT / (time.perf_counter() - begun)
    return {"taken": taken, "cpu": cpu, "rate": rate}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured(sys.argv[1], int(sys.argv[2])))))
