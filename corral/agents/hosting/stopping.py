"""Waiting until nothing of a cancelled run works any more, whoever executes it."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from corral.agents.hosting import orders
from corral.errors import ConflictError
from corral.runtime.database import Database

PATIENCE = 20.0
"""Seconds that another process may take to stop it."""

_POLL_SECONDS = 0.2


async def until_stopped(database: Database, run: str) -> None:
    """Return when a run that was marked as cancelled is over. Raises ``ConflictError``."""
    until = time.monotonic() + PATIENCE
    while True:
        if await database.write(partial(orders.is_stopped, run=run)):
            return
        if time.monotonic() > until:
            raise ConflictError(
                f"The run {run} is being run by another process.",
                hint="It was resumed in a terminal: stop it there with Ctrl-C.",
            )
        await asyncio.sleep(_POLL_SECONDS)
