"""Work that its user may end early, keeping what was done until then."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def done_unless_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event | None) -> bool:
    """Do it until its end or until ``stop`` is set; whether it came to its end.

    Raises what the work raises.
    """
    working = asyncio.create_task(work)
    stopper = asyncio.create_task((stop or asyncio.Event()).wait())
    try:
        await asyncio.wait([working, stopper], return_when=asyncio.FIRST_COMPLETED)
        done = working.done()
    finally:
        working.cancel()
        stopper.cancel()
        await asyncio.gather(working, stopper, return_exceptions=True)
    if done:
        working.result()
    return done
