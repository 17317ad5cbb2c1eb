"""A value that is asked for with every call, and may be a few seconds old."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """What ``make`` gives, made anew when it is older than ``seconds``."""

    def __init__(self, make: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._made: tuple[float, T] | None = None
        self._making = asyncio.Lock()

    async def get(self) -> T:
        """The value. Raises what ``make`` raises; then the next call tries again."""
        async with self._making:
            now = time.monotonic()
            if self._made is None or now - self._made[0] > self._seconds:
                self._made = now, await self._make()
            return self._made[1]
