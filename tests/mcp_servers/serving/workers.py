"""A program that serves the gated service in one process or several; it prints where."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types

from corral.mcp_servers.serving.announcing import announced
from corral.mcp_servers.serving.contract import AsTask, Caller, Exchange, Service
from corral.mcp_servers.serving.http import planned, serve_here, serve_workers
from corral.runtime.serve_settings import ServeSettings
from tests.mcp_servers.serving.service import GatedService, text


class NumberedService(GatedService):
    """Says in which process it is."""

    async def call(
        self, caller: Caller, tool: str, args: dict[str, Any], exchange: Exchange
    ) -> types.CallToolResult | AsTask:
        if tool == "ask":
            return await super().call(caller, tool, args, exchange)
        return text(str(os.getpid()))


@asynccontextmanager
async def opened() -> AsyncIterator[Service]:
    yield NumberedService()


def main(home: Path, count: int) -> None:
    plan, listener = planned(home, ServeSettings(rate=100_000), "127.0.0.1", 0, count)
    assert plan.token is not None
    with announced(home, plan.listening("gated", os.getpid())):
        sys.stdout.write(f"{plan.url} {plan.token.secret}\n")
        sys.stdout.flush()
        if count > 1:
            serve_workers(opened, plan, listener)
        else:
            asyncio.run(serve_here(opened, plan, listener))


if __name__ == "__main__":
    # Workers import what is pickled by its name, so it must not be in ``__main__``.
    from tests.mcp_servers.serving import workers

    workers.main(Path(sys.argv[1]), int(sys.argv[2]))
