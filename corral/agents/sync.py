"""The synchronous façade: the same ``Corral``, driven by an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from corral.agents.app import Corral, RunOptions
from corral.agents.app import open as open_async
from corral.jsontypes import JsonObject
from corral.runtime.config import Settings
from corral.runtime.events import Event
from corral.runtime.views import Approval, EffectView, ReplayReport, RunResult, RunView

T = TypeVar("T")


@contextmanager
def open_sync(settings: Settings | None = None) -> Iterator[SyncCorral]:
    """``corral.open`` for code that is not asynchronous."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="corral-loop", daemon=True)
    thread.start()
    try:
        opening = open_async(settings)
        opened = _wait(loop, opening.__aenter__())
        try:
            yield SyncCorral(opened, loop)
        finally:
            _wait(loop, opening.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class SyncCorral:
    """``Corral`` without ``await``: each method waits for its result."""

    def __init__(self, corral: Corral, loop: asyncio.AbstractEventLoop) -> None:
        """Not for callers: use ``open_sync``."""
        self._corral = corral
        self._loop = loop

    def run(self, prompt: str, options: RunOptions = RunOptions()) -> RunResult:
        """See ``Corral.run``."""
        return _wait(self._loop, self._corral.run(prompt, options))

    def stream(self, prompt: str, options: RunOptions = RunOptions()) -> Iterator[Event]:
        """See ``Corral.stream``. Leaving the loop early stops the run."""
        events: AsyncIterator[Event] = self._corral.stream(prompt, options)
        try:
            while (event := _wait(self._loop, _next(events))) is not None:
                yield event
        finally:
            _wait(self._loop, _close(events))

    def resume(self, run: str, options: RunOptions = RunOptions()) -> RunResult:
        """See ``Corral.resume``."""
        return _wait(self._loop, self._corral.resume(run, options))

    def replay(self, run: str, options: RunOptions = RunOptions()) -> ReplayReport:
        """See ``Corral.replay``."""
        return _wait(self._loop, self._corral.replay(run, options))

    def runs(self, *, thread: str | None = None, limit: int = 50) -> list[RunView]:
        """See ``Records.runs``."""
        return _wait(self._loop, self._corral.records.runs(thread=thread, limit=limit))

    def trace(self, run: str) -> list[EffectView]:
        """See ``Records.trace``."""
        return _wait(self._loop, self._corral.records.trace(run))

    def approvals(self, run: str | None = None) -> list[Approval]:
        """See ``Corral.approvals``."""
        return _wait(self._loop, self._corral.approvals(run))

    def approve(
        self, approval: str, *, args: JsonObject | None = None, always: bool = False
    ) -> Approval:
        """See ``Corral.approve``."""
        return _wait(self._loop, self._corral.approve(approval, args=args, always=always))

    def deny(self, approval: str, reason: str) -> Approval:
        """See ``Corral.deny``."""
        return _wait(self._loop, self._corral.deny(approval, reason))


def _wait(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except KeyboardInterrupt:
        # Ctrl-C reaches this thread; the run lives in the other one and must end first.
        future.cancel()
        raise


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


async def _close(events: AsyncIterator[Event]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()
