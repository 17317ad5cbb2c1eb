"""One run that this process works on, and those who listen to what it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from corral.runtime.events import Event, ReasoningDelta, TextDelta, ToolCallDelta

MOST_BEHIND = 1_000
"""Events that a listener may be behind; of a slower one the pieces of texts are left out."""

_PIECES = (TextDelta, ReasoningDelta, ToolCallDelta)


class Execution:
    """A run at work. ``begun`` is set when it is on the disk as begun, or will not begin."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.begun = asyncio.Event()
        self.refusal: Exception | None = None
        self.task: asyncio.Task[None] | None = None
        self._listeners: set[asyncio.Queue[Event | None]] = set()

    def tell(self, event: Event) -> None:
        """Pass an event on to who listens."""
        for queue in self._listeners:
            if queue.qsize() < MOST_BEHIND or not isinstance(event, _PIECES):
                queue.put_nowait(event)

    def end(self) -> None:
        """Nothing more comes: it has ended, or waits for somebody."""
        self.begun.set()
        for queue in self._listeners:
            queue.put_nowait(None)

    async def stop(self) -> None:
        """Stop the work. Returns when its tools and sub-agents have ended."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])

    async def listen(self) -> AsyncIterator[Event]:
        """What it does from now on, to its end."""
        with self._queue() as queue:
            while (event := await queue.get()) is not None:
                yield event

    @contextmanager
    def _queue(self) -> Iterator[asyncio.Queue[Event | None]]:
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._listeners.add(queue)
        if self.task is not None and self.task.done():
            queue.put_nowait(None)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)
