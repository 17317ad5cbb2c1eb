"""What a server may send of its own accord, so that none of it can pile up here."""

from __future__ import annotations

import asyncio
import time

_MAX_NOISE = 1000
_MAX_UNANSWERED = 64
_MAX_NOTIFICATIONS = 1000


class BrokenProtocolError(Exception):
    """The server does something that no MCP server may; the message says what."""


class Guard:
    """Counts it. Raises ``BrokenProtocolError`` where there is too much of it."""

    def __init__(self) -> None:
        self._noise = 0
        self._unanswered = 0
        self._notifications = 0
        self._second = 0.0

    def noise(self) -> None:
        """A line that is no message: a stray print is harmless, an endless stream is not."""
        self._noise += 1
        if self._noise > _MAX_NOISE:
            raise BrokenProtocolError("keeps writing what is not MCP to its output")

    def asked(self) -> None:
        """It asks something of us."""
        self._unanswered += 1
        if self._unanswered > _MAX_UNANSWERED:
            raise BrokenProtocolError("asks more than it reads answers for")

    def answered(self) -> None:
        """An answer of ours goes out."""
        self._unanswered -= 1

    async def notified(self) -> None:
        """A notification, at a rate that leaves time for everything else."""
        now = time.monotonic()
        if now - self._second >= 1:
            self._second, self._notifications = now, 0
        self._notifications += 1
        if self._notifications > _MAX_NOTIFICATIONS:
            await asyncio.sleep(self._second + 1 - now)
