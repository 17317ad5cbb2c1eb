"""Where a replay runs: a thread with an event loop of its own, without a way out, without waiting.

In there a socket that connects and a process that starts are errors, whoever tries. When all that
is left to do is to wait for a deadline (the graph gave up on an effect, and will again), the
loop's clock moves on to it.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from corral.errors import DivergenceError

T = TypeVar("T")

_offline: ContextVar[bool] = ContextVar("corral_offline", default=False)

_WAYS_OUT = frozenset(
    {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"}
    | {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"}
)

_PEEK = 0.01  # seconds to let another thread's result arrive before the clock moves on


class OfflineLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves on by itself while ``parked`` is entered."""

    def __init__(self) -> None:
        self._waits = _Waits()
        super().__init__(self._waits)

    def time(self) -> float:
        """The loop's clock: the real one, and what was skipped."""
        return super().time() + self._waits.skipped

    @contextmanager
    def parked(self) -> Iterator[None]:
        """Something waits here for an end that never comes by itself."""
        self._waits.parked += 1
        try:
            yield
        finally:
            self._waits.parked -= 1


class _Waits(selectors.DefaultSelector):
    """A selector that does not wait for deadlines while something is parked."""

    def __init__(self) -> None:
        super().__init__()
        self.parked = 0
        self.skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if not self.parked or timeout is None or timeout <= _PEEK:
            return super().select(timeout)
        found = super().select(_PEEK)
        if not found:
            self.skipped += timeout
        return found


async def offline(work: Callable[[OfflineLoop], Coroutine[Any, Any, T]]) -> T:
    """Run ``work`` in there and return its result. Cancelling it stops the work."""
    _close_ways_out()
    inner: list[tuple[OfflineLoop, asyncio.Task[T]]] = []

    def run() -> T:
        _offline.set(True)  # in this thread's copy of the context
        with asyncio.Runner(loop_factory=OfflineLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, OfflineLoop)

            async def main() -> T:
                task = loop.create_task(work(loop))
                inner.append((loop, task))
                return await task

            return runner.run(main())

    try:
        return await asyncio.to_thread(run)
    except asyncio.CancelledError:
        for loop, task in inner:
            loop.call_soon_threadsafe(task.cancel)
        raise


_hooked = False


def _close_ways_out() -> None:
    """Install the hook, once a process: Python cannot take one out again."""
    global _hooked  # noqa: PLW0603  once a process, as the hook itself
    if not _hooked:
        sys.addaudithook(_refuse)
        _hooked = True


def _refuse(event: str, _args: tuple[Any, ...]) -> None:
    if event in _WAYS_OUT and _offline.get():
        raise DivergenceError(
            f"The graph tried to leave by itself ({event}) during a replay.",
            hint="What reaches out of a graph goes through the door: make it a tool, or "
            "`await corral.step(name, function)`.",
        )
