"""Progress of a call, on its way from the server to the caller."""

from __future__ import annotations

import asyncio
import contextvars

import structlog

from corral.tools.contract import Progress
from corral.tools.text import one_line

_log = structlog.get_logger(__name__)


class Relay:
    """Hands progress to the caller in the caller's context, the latest only while it is busy."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._context = contextvars.copy_context()
        self._latest: tuple[float, float | None, str] | None = None
        self._busy: asyncio.Task[None] | None = None

    def tell(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """The server says how far it is."""
        self._latest = (progress, total, one_line(message or ""))
        if self._busy is None or self._busy.done():
            self._busy = asyncio.create_task(self._pass_on(), context=self._context)

    async def finish(self) -> None:
        """No more is to come; waits for a report that is under way."""
        if self._busy:
            await asyncio.wait({self._busy}, timeout=1.0)
            if not self._busy.done():
                self._busy.cancel()
            elif not self._busy.cancelled() and (error := self._busy.exception()):
                _log.warning("progress callback failed", error=repr(error))

    async def _pass_on(self) -> None:
        while self._latest:
            latest, self._latest = self._latest, None
            await self._progress(*latest)
