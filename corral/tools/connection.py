"""One live session, held open by a task of its own.

The SDK's client is built on cancel scopes that must be left by the task that entered them, while
calls come from any task. So an owner task enters the session, waits to be told to stop, and leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from corral.tools.contract import ToolSpec
from corral.tools.wire import Session

Lost = Callable[[str], None]
"""Called by a transport when its connection has ended, with the reason in words."""

OpenSession = Callable[[Lost], AbstractAsyncContextManager[Session]]

_CLOSE_SECONDS = 5.0


class Connection:
    """A session from ``open`` to ``close``, and what is known of it in between.

    ``lost`` says in words why it ended by itself, or is empty. ``specs`` are the tools of its last
    listing by name, ``None`` before the first.
    """

    def __init__(self, open_session: OpenSession) -> None:
        self._open_session = open_session
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self.lost = ""
        self.specs: dict[str, ToolSpec] | None = None

    @property
    def alive(self) -> bool:
        """Whether calls can be made."""
        return self._session is not None and not self._stop.is_set()

    @property
    def session(self) -> Session:
        """The session; only while ``alive``."""
        assert self._session is not None
        return self._session

    async def open(self, seconds: float) -> BaseException | None:
        """Open the session within ``seconds``; the failure when that did not succeed.

        A failed or cancelled opening has been undone when this returns.
        """
        self._owner = asyncio.create_task(self._own())
        self._owner.add_done_callback(_failure)
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait(
                {self._owner, ready}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            await self._abandon()
            raise
        finally:
            ready.cancel()
        if self._ready.is_set():
            return None
        if not self._owner.done():
            await self._abandon()
            return TimeoutError()
        return _failure(self._owner) or ConnectionError(self.lost)

    def retire(self, reason: str) -> None:
        """Let no more calls through and close in the background."""
        self.lost = self.lost or reason
        self._stop.set()

    async def close(self) -> None:
        """End the session. Safe to call twice and from several tasks."""
        self._stop.set()
        if self._owner is not None:
            if not self._ready.is_set():
                self._owner.cancel()
            _, late = await asyncio.wait({self._owner}, timeout=_CLOSE_SECONDS)
            if late:
                await self._abandon()

    async def _abandon(self) -> None:
        assert self._owner is not None
        self._owner.cancel()
        await asyncio.wait({self._owner}, timeout=_CLOSE_SECONDS)

    async def _own(self) -> None:
        try:
            async with self._open_session(self.retire) as session:
                self._session = session
                self._ready.set()
                await self._stop.wait()
        finally:
            self.retire("")


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    """The one error that ended ``task``, out of the nested groups that the SDK wraps it in."""
    error = None if task.cancelled() else task.exception()
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
