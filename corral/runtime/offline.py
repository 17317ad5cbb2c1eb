"""Where a replay runs: a thread with an event loop of its own, without a way out, without waiting.

In there a socket that connects and a process that starts are errors, whoever tries. When there is
nothing left to do but to wait, the loop asks what happens next instead.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

from corral.errors import DivergenceError

T = TypeVar("T")

Then = Literal["go on", "skip", "wait"]
"""What an idle loop does: look again, move its clock on to its next deadline, or really wait."""

_offline: ContextVar[bool] = ContextVar("corral_offline", default=False)

_WAYS_OUT = frozenset(
    {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"}
    | {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"}
)


class OfflineLoop(asyncio.SelectorEventLoop):
    """An event loop that asks what to do when it is idle. Work in other threads is waited for."""

    def __init__(self) -> None:
        self._waits = _Waits()
        super().__init__(self._waits)

    def time(self) -> float:
        """The loop's clock, in seconds: the real one, and what was skipped."""
        return super().time() + self._waits.skipped

    def when_idle(self, decide: Callable[[float | None], Then]) -> None:
        """Ask ``decide``, told for how many seconds the loop would wait (``None``: for ever)."""
        self._waits.decide = decide

    def run_in_executor(  # type: ignore[override]  # whatever it is given is handed on
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        """As in every loop; until it is done the loop is not idle."""
        future = super().run_in_executor(executor, func, *args)
        self._waits.elsewhere += 1
        future.add_done_callback(self._waits.back)
        return future


class _Waits(selectors.DefaultSelector):
    """The place where an event loop waits."""

    def __init__(self) -> None:
        super().__init__()
        self.decide: Callable[[float | None], Then] | None = None
        self.skipped = 0.0
        self.elsewhere = 0

    def back(self, _future: object) -> None:
        self.elsewhere -= 1

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        is_idle = timeout is None or timeout > 0
        if found or not is_idle:
            return found
        if self.elsewhere or self.decide is None:
            return super().select(timeout)
        then = self.decide(timeout)
        if then == "wait":
            return super().select(timeout)
        if then == "skip" and timeout is not None:
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
                # What a node has left behind is cancelled with the loop, and is no news.
                loop.set_exception_handler(lambda _loop, _context: None)
                task = loop.create_task(work(loop))
                inner.append((loop, task))
                try:
                    return await task
                finally:
                    loop.when_idle(lambda _pause: "wait")

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
