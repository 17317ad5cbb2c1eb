"""A request on its way through the engine, and the way of its chunks back to who waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from corral.errors import ModelError
from corral.runtime.models.contract import Chunk
from corral.runtime.models.local.scheduling.contract import Generation, Place

Emit = Callable[[Chunk], None]
_Item = Chunk | BaseException | None


class Job:
    """``make`` gives the generation, on the engine's thread. Made in the event loop that waits.

    ``deadline`` is in seconds from now.
    """

    def __init__(
        self,
        make: Callable[[Emit], Generation],
        place: Place,
        mail: Mail,
        deadline: float | None = None,
    ) -> None:
        self.make = make
        self.place = place
        self.deadline = deadline
        self._ends = None if deadline is None else time.monotonic() + deadline
        self._mail = mail
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[_Item] = asyncio.Queue()
        self._cancelled = threading.Event()

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._cancelled.is_set()

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more, or it took too long."""
        return self.is_cancelled or (self._ends is not None and time.monotonic() > self._ends)

    def emit(self, chunk: Chunk) -> None:
        """Hand a chunk to who waits, with the next mail."""
        self._mail.post(self._loop, self._items, chunk)

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more comes, and why if something went wrong."""
        self._mail.post(self._loop, self._items, error)

    def give_up(self) -> None:
        """End a job that is over."""
        if self.is_cancelled:
            self.end()
            return
        self.end(
            ModelError(
                f"The answer was not there within {self.deadline:g} seconds.",
                hint="Give it more time, or use a faster model.",
            )
        )

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """What was emitted, to the end; raises what went wrong. Closing it cancels the job."""
        try:
            while (item := await self._items.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self._cancelled.set()


class Mail:
    """Takes what happened in a round to the event loops, with one call for each of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bags: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Queue[_Item], _Item]]]
        self._bags = defaultdict(list)

    def post(
        self, loop: asyncio.AbstractEventLoop, items: asyncio.Queue[_Item], item: _Item
    ) -> None:
        """Something for one who waits in ``loop``."""
        with self._lock:
            self._bags[loop].append((items, item))

    def send(self) -> None:
        """Deliver what was posted since."""
        if not self._bags:
            return
        with self._lock:
            bags, self._bags = self._bags, defaultdict(list)
        for loop, bag in bags.items():
            with suppress(RuntimeError):  # a loop that was closed: nobody waits there
                loop.call_soon_threadsafe(_deliver, bag)


def _deliver(bag: list[tuple[asyncio.Queue[_Item], _Item]]) -> None:
    for items, item in bag:
        items.put_nowait(item)
