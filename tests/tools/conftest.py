"""Servers that are closed when their test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from corral.tools.server import Standing, Timing
from corral.tools.stdio import StdioServer
from tests.tools.support import QUICK, MakeServer, lean


@pytest.fixture
async def make() -> AsyncIterator[MakeServer]:
    """Makes lean servers that are closed at the end: ``make(mode, notes, timing, trusted)``."""
    async with AsyncExitStack() as stack:

        def made(
            mode: str = "plain",
            notes: Path | None = None,
            timing: Timing = QUICK,
            *,
            trusted: bool = False,
        ) -> StdioServer:
            server = StdioServer(
                "srv", lean(mode, notes), standing=Standing(trusted=trusted), timing=timing
            )
            stack.push_async_callback(server.aclose)
            return server

        yield made
