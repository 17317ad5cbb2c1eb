"""The synchronous façade: the same ``Corral``, driven by an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager
from typing import Any, TypeVar

from corral.agents.app import Corral
from corral.agents.app import open as open_async
from corral.agents.extracting import extract
from corral.agents.options import Fork, RunOptions
from corral.errors import UsageError
from corral.jsontypes import JsonObject
from corral.runtime.approvals.replies import Always, Stopped
from corral.runtime.config import Settings
from corral.runtime.events import Event, Events
from corral.runtime.rewind_report import RewindReport
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
        front = SyncCorral(opened, loop)
        try:
            yield front
        finally:
            front.close_streams()
            _wait(loop, opening.__aexit__(None, None, None))
    finally:
        _wait(loop, loop.shutdown_default_executor())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class SyncCorral:
    """``Corral`` without ``await``: each method waits for its result."""

    def __init__(self, corral: Corral, loop: asyncio.AbstractEventLoop) -> None:
        """Not for callers: use ``open_sync``."""
        self._corral = corral
        self._loop = loop
        self._streams: set[Events] = set()

    def run(self, prompt: str, options: RunOptions = RunOptions()) -> RunResult:
        """See ``Corral.run``."""
        return _wait(self._loop, self._corral.run(prompt, options))

    def extract(self, returns: type[T], prompt: str, options: RunOptions = RunOptions()) -> T:
        """See ``corral.extract``."""
        return _wait(self._loop, extract(self._corral, returns, prompt, options))

    def stream(self, prompt: str, options: RunOptions = RunOptions()) -> Iterator[Event]:
        """See ``Corral.stream``. Leaving the loop early stops the run."""
        events = self._corral.stream(prompt, options)
        self._streams.add(events)
        try:
            while (event := _wait(self._loop, _next(events))) is not None:
                yield event
        finally:
            if events in self._streams:  # else Corral was closed before, and it with Corral
                self._streams.remove(events)
                _wait(self._loop, events.aclose())

    def close_streams(self) -> None:
        """Stop the runs of streams that nobody reads to their end."""
        while self._streams:
            _wait(self._loop, self._streams.pop().aclose())

    def resume(self, run: str, options: RunOptions = RunOptions()) -> RunResult:
        """See ``Corral.resume``."""
        return _wait(self._loop, self._corral.resume(run, options))

    def fork(self, run: str, fork: Fork, options: RunOptions = RunOptions()) -> RunResult:
        """See ``Corral.fork``."""
        return _wait(self._loop, self._corral.fork(run, fork, options))

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
        self, approval: str, *, args: JsonObject | None = None, always: Always | bool = False
    ) -> Approval:
        """See ``Corral.approve``."""
        return _wait(self._loop, self._corral.approve(approval, args=args, always=always))

    def deny(self, approval: str, reason: str, *, always: Always | bool = False) -> Approval:
        """See ``Corral.deny``."""
        return _wait(self._loop, self._corral.deny(approval, reason, always=always))

    def stop(self, approval: str, reason: str = Stopped.reason) -> Approval:
        """See ``Corral.stop``."""
        return _wait(self._loop, self._corral.stop(approval, reason))

    def give(self, approval: str, result: str) -> Approval:
        """See ``Corral.give``."""
        return _wait(self._loop, self._corral.give(approval, result))

    def rewind(
        self, thread: str, to: int | str, *, files: bool = True, dry_run: bool = False
    ) -> RewindReport:
        """See ``Corral.rewind``."""
        work = self._corral.rewind(thread, to, files=files, dry_run=dry_run)
        return _wait(self._loop, work)

    def undo_rewind(self, thread: str, *, dry_run: bool = False) -> RewindReport:
        """See ``Corral.undo_rewind``."""
        return _wait(self._loop, self._corral.undo_rewind(thread, dry_run=dry_run))


def _wait(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    if loop.is_closed():
        work.close()
        raise UsageError("Corral is closed.", hint="Use it inside of `with corral.open_sync():`.")
    done: Future[T] = Future()
    started: list[asyncio.Task[T]] = []

    def ended(task: asyncio.Task[T]) -> None:
        if task.cancelled():
            done.set_exception(CancelledError())
        elif (error := task.exception()) is not None:
            done.set_exception(error)
        else:
            done.set_result(task.result())

    def start() -> None:
        started.append(loop.create_task(work))
        started[0].add_done_callback(ended)

    def cancel() -> None:
        if started:
            started[0].cancel()
        else:  # the interrupt came before it was handed over
            work.close()
            done.set_exception(CancelledError())

    try:
        loop.call_soon_threadsafe(start)
        return done.result()
    except KeyboardInterrupt:
        # Ctrl-C reaches this thread; what runs in the other one must end well first.
        loop.call_soon_threadsafe(cancel)
        wait([done])
        raise


async def _next(events: Events) -> Event | None:
    return await anext(events, None)
