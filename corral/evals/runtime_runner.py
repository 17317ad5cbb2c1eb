"""Run cases through the real runtime: the same door, journal, policies and sandbox as ever."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from corral.agents import app
from corral.agents.options import RunOptions
from corral.errors import ConflictError
from corral.evals.dataset import Case, Dataset
from corral.evals.grading import CaseOutcome
from corral.evals.report import Report
from corral.evals.runner import OnTrial, run_eval
from corral.runtime.config import Settings


@dataclass(frozen=True)
class RuntimeRunner:
    """A ``CaseRunner`` over the SDK.

    Each run gets a database of its own in a new folder under ``home``, so that a case neither
    sees nor changes the user's threads and memories, or another case's. Nobody answers
    approvals: a run that asks is paused, and fails unless its case expects that.
    """

    settings: Settings
    home: Path
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self, case: Case, workspace: Path) -> CaseOutcome:
        """See ``CaseRunner``."""
        home = Path(tempfile.mkdtemp(prefix=f"{case.id}-", dir=self.home))
        own = {"home": home, "database_url": "", "workspace": workspace}
        options = RunOptions(
            agent=case.agent, model=case.model, policy=case.policy, limits=case.limits
        )
        async with AsyncExitStack() as stack:
            # One at a time: Alembic, which makes the database, keeps its state in globals.
            async with self._opening:
                corral = await stack.enter_async_context(
                    app.open(self.settings.model_copy(update=own))
                )
            result = await corral.run(case.prompt, options)
            return CaseOutcome(result, await corral.records.trace(result.run))


@dataclass(frozen=True)
class EvalOptions:
    """How a set is run.

    ``keep`` is an empty or new folder for the databases of the runs, so that `corral --home
    FOLDER/CASE-… trace RUN` can show them; without it they are deleted.
    """

    concurrency: int = 2
    repeat: int = 1
    keep: Path | None = None
    on_trial: OnTrial | None = None


async def evaluate(
    dataset: Dataset, settings: Settings, options: EvalOptions = EvalOptions()
) -> Report:
    """Run a set through the runtime. Ctrl-C ends it early and keeps what was done.

    Raises ``ConflictError`` when ``keep`` is a folder with something in it.
    """
    with _home(options.keep) as home, until_interrupted() as stop:
        return await run_eval(
            dataset,
            RuntimeRunner(settings, home),
            concurrency=options.concurrency,
            repeat=options.repeat,
            on_trial=options.on_trial,
            stop=stop,
        )


@contextmanager
def _home(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="corral-eval-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        empty = not any(keep.iterdir())
    except OSError as error:
        raise ConflictError(
            f"{keep} cannot be used to keep the runs: {error.strerror}.", hint="Name a new folder."
        ) from error
    if not empty:
        raise ConflictError(f"{keep} is not empty.", hint="Name a new folder to keep the runs in.")
    yield keep.absolute()


@contextmanager
def until_interrupted() -> Iterator[asyncio.Event]:
    """An event that the first Ctrl-C sets; a second one interrupts as always."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    try:
        loop.add_signal_handler(signal.SIGINT, on_signal)
    except (RuntimeError, ValueError):  # not the main thread: nobody sends it signals
        yield stop
        return
    try:
        yield stop
    finally:
        loop.remove_signal_handler(signal.SIGINT)
