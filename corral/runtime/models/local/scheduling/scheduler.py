"""The engine's one thread: takes requests from the line, and evaluates all answers together.

Every round gathers the next tokens of all answers in the making, evaluates them at once, and lets
each answer go on whose scores are there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from corral.errors import CorralError, ModelError
from corral.runtime.models.local.native.context import Context
from corral.runtime.models.local.scheduling.evaluating import Evaluator
from corral.runtime.models.local.scheduling.job import Job, Mail
from corral.runtime.models.local.scheduling.placing import Placing
from corral.runtime.models.local.scheduling.queue import Queue
from corral.runtime.models.local.scheduling.rounds import Share, plan
from corral.runtime.models.local.scheduling.run import Run

T = TypeVar("T")
_SAVE_AFTER = 1.0
"""Seconds of idleness after which conversations are written to the disk."""
_READ_EVERY = 0.005
"""Seconds between two looks whether a saved conversation has been read, when all wait for that."""


@dataclass(frozen=True)
class Limits:
    """``parallel`` answers at once, ``queue`` requests in line, ``window`` tokens each.

    ``beside`` is how many tokens of prompts are evaluated with the next token of an answer.
    """

    parallel: int
    queue: int
    window: int
    beside: int


class Scheduler:
    """Serves jobs until it is closed. Its methods may be called from any thread.

    ``free`` is called on the engine's thread at the very end.
    """

    def __init__(
        self,
        context: Context,
        placing: Placing,
        evaluator: Evaluator,
        limits: Limits,
        free: Callable[[], None],
    ) -> None:
        self._context = context
        self._placing = placing
        self._evaluator = evaluator
        self._limits = limits
        self._free = free
        self._queue = Queue(limits.queue)
        self._runs: dict[Run, Job] = {}
        self._calls: list[Callable[[], None]] = []
        self._changed = threading.Condition()
        self._closing = False
        self._unsaved = False
        self.mail = Mail()
        self._thread = threading.Thread(target=self._work, name="corral-llama", daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being made and nobody waits."""
        return not self._runs and not self._queue

    def submit(self, job: Job) -> None:
        """Put a job into the line. Raises ``ModelError`` when it is full or all is closed."""
        with self._changed:
            if self._closing:
                raise _closed()
            self._queue.put(job)
            self._changed.notify()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Call a function on the engine's thread, between two rounds."""
        future: Future[T] = Future()
        with self._changed:
            if self._closing:
                raise _closed()
            self._calls.append(lambda: _answer(future, function))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Free everything, after the answers that are being made. Safe to call twice."""
        with self._changed:
            self._closing = True
            for job in self._queue.remove_all():
                job.end(_closed())
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        """The engine's thread, from its beginning to its end."""
        error: BaseException | None = None
        try:
            while self._serve():
                pass
            self._placing.close()
        except BaseException as broken:  # noqa: BLE001  # nobody may wait for a dead thread
            error = broken
        self._stop(error)

    def _serve(self) -> bool:
        """One round, once there is something to do; ``False``: there never will be."""
        try:
            if not self._wait():
                return False
            self._round()
        except Exception as error:  # noqa: BLE001  # what goes wrong is not for who comes next
            for run in tuple(self._runs):
                self._leave(run, damaged=True).end(_failed(error))
                run.close()
            self.mail.send()
        return True

    def _wait(self) -> bool:
        """Wait until there is something to do; ``False``: there never will be."""
        while not self._is_wanted(within=_SAVE_AFTER if self._unsaved else None):
            self._unsaved = False
            self._unsaved = not self._placing.save_idle(self._is_wanted)
        with self._changed:
            calls, self._calls = self._calls, []
        for call in calls:
            call()
        return bool(self._queue or self._runs or not self._closing)

    def _is_wanted(self, within: float | None = 0) -> bool:
        """Whether there is something to do within so many seconds (``None``: wait for it)."""
        with self._changed:
            return self._changed.wait_for(
                lambda: bool(self._queue or self._runs or self._calls or self._closing), within
            )

    def _stop(self, error: BaseException | None) -> None:
        with self._changed:
            self._closing = True
            jobs = [*self._runs.values(), *self._queue.remove_all()]
        for job in jobs:
            job.end(_failed(error) if error else _closed())
        self.mail.send()
        self._free()

    def _round(self) -> None:
        """Let everybody in who may come, evaluate once, and let the answers go on."""
        self._admit()
        self._end_over()
        waiting = self._settle()
        pending = [run for run in self._runs if run.settled and not run.is_ready]
        chosen = self._evaluator.choose(pending)
        shares = plan(chosen, self._context.n_batch, self._limits.beside)
        self.mail.send()
        if shares:
            self._evaluate(shares)
        elif waiting:
            with self._changed:
                self._changed.wait(_READ_EVERY)
        self.mail.send()

    def _admit(self) -> None:
        with self._changed:
            over = self._queue.remove_over()
            jobs = []
            served = [run.place.conversation for run in self._runs]
            while self._queue and len(served) < self._limits.parallel:
                job = self._queue.next(served)
                jobs.append(job)
                served.append(job.place.conversation)
        for job in over:
            job.give_up()
        for job in jobs:
            self._begin(job)

    def _begin(self, job: Job) -> None:
        try:
            run = Run(job.make(job.emit), job.place, self._limits.window)
        except Exception as error:  # noqa: BLE001  # the border to the making of an answer
            job.end(_failed(error))
            return
        self._runs[run] = job
        self._advance(run, run.start)

    def _end_over(self) -> None:
        for run, job in tuple(self._runs.items()):
            if job.is_over:
                run.close()
                self._leave(run).give_up()

    def _settle(self) -> bool:
        """Give every run its place that can have one; whether some wait for it."""
        waiting = False
        for run in tuple(self._runs):
            if run.settled or run.parked:
                continue
            settled = [other for other in self._runs if other.settled]
            waiting |= not self._placing.settle(run, settled)
        return waiting

    def _evaluate(self, shares: list[Share]) -> None:
        for run, error in self._evaluator.evaluate(shares):
            run.close()
            self._leave(run, damaged=True).end(error)
        for run in [share.run for share in shares if share.run in self._runs]:
            self._placing.mark(run)
            if run.is_ready:
                self._advance(run, run.resume)

    def _advance(self, run: Run, step: Callable[[], bool]) -> None:
        """Let a generation go on to its next step, or to its end."""
        try:
            if step():
                return
            error: BaseException | None = None
        except Exception as raised:  # noqa: BLE001  # the border to the making of an answer
            error = _failed(raised)
        self._leave(run).end(error)

    def _leave(self, run: Run, *, damaged: bool = False) -> Job:
        """A run has ended: its sequence stays for who goes on with it, unless it is damaged."""
        sequence = run.unsettle()
        if sequence is not None and (damaged or not sequence.tokens):
            self._placing.cache.remove(sequence)
        for other in self._runs:
            other.parked = False
        self._unsaved = True
        return self._runs.pop(run)


def _answer(future: Future[T], function: Callable[[], T]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001  # it is for who waits for the result
        future.set_exception(error)


def _closed() -> ModelError:
    return ModelError("The model has been closed.", hint="Open it again.")


def _failed(error: BaseException) -> CorralError:
    if isinstance(error, CorralError):
        return error
    failed = ModelError(
        f"The local engine failed on this request: {type(error).__name__}: {error}.",
        hint="Ask again; if it fails again, please report it.",
    )
    failed.__cause__ = error
    return failed
