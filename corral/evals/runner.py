"""Run the cases of a set, several at a time, each in a fresh folder, and check what they did."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from corral.errors import CorralError
from corral.evals.checks import Check
from corral.evals.dataset import Case, Dataset
from corral.evals.grading import CaseOutcome, Evidence
from corral.evals.report import CheckResult, Report, Trial
from corral.evals.stopping import done_unless_stopped

DEFAULT_TIMEOUT = 600.0
"""Seconds for one run, where neither case nor set says otherwise."""

OnTrial = Callable[[Trial, int, int], None]
"""Called after each trial with it, how many are done and how many are planned."""


class CaseRunner(Protocol):
    """Runs one case, for real. Called concurrently."""

    async def __call__(self, case: Case, workspace: Path) -> CaseOutcome:
        """Run ``case`` in the folder ``workspace``, which holds its files.

        Whatever it raises fails this trial alone.
        """
        ...


@dataclass
class _Work:
    """The trials that are still to be made, and those that are done."""

    pending: list[tuple[Case, int]]
    planned: int
    on_trial: OnTrial | None
    done: list[Trial] = field(default_factory=list)

    async def run(self, run_case: CaseRunner, concurrency: int) -> None:
        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(self._worker(run_case))

    async def _worker(self, run_case: CaseRunner) -> None:
        while self.pending:
            case, number = self.pending.pop(0)
            trial = await _try(case, number, run_case)
            self.done.append(trial)
            if self.on_trial is not None:
                self.on_trial(trial, len(self.done), self.planned)


async def run_eval(
    dataset: Dataset,
    run_case: CaseRunner,
    *,
    concurrency: int = 2,
    repeat: int = 1,
    on_trial: OnTrial | None = None,
    stop: asyncio.Event | None = None,
) -> Report:
    """Run every case ``repeat`` times, at most ``concurrency`` at once, and report.

    A case that raises or takes too long is a failed trial with its error; the others go on.
    Setting ``stop`` cancels what is running and reports what was done until then.
    """
    rounds = [(dataset.effective(case), n + 1) for n in range(repeat) for case in dataset.cases]
    work = _Work(rounds, len(rounds), on_trial)
    done = await done_unless_stopped(work.run(run_case, max(1, concurrency)), stop)
    order = {case.id: place for place, case in enumerate(dataset.cases)}
    trials = sorted(work.done, key=lambda trial: (order[trial.case], trial.number))
    return Report(dataset.name, dataset.threshold, work.planned, tuple(trials), not done)


async def _try(case: Case, number: int, run_case: CaseRunner) -> Trial:
    """Make one trial in a folder of its own, which is deleted afterwards."""
    folder = await asyncio.to_thread(_workspace, case)
    try:
        return await _run_and_check(case, number, run_case, Path(folder.name))
    finally:
        await asyncio.to_thread(folder.cleanup)


async def _run_and_check(case: Case, number: int, run_case: CaseRunner, workspace: Path) -> Trial:
    timeout = case.timeout or DEFAULT_TIMEOUT
    started = time.monotonic()
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            outcome = await run_case(case, workspace)
    except CorralError as raised:
        error = str(raised)
    except Exception as raised:  # noqa: BLE001  # the border of a case: the others must go on
        error = f"unexpected {type(raised).__name__}: {raised}"
        if limit.expired():
            error = f"the run did not end within {timeout:g} s"
    else:
        evidence = Evidence(outcome, workspace)
        checks = await asyncio.to_thread(lambda: tuple(_check(c, evidence) for c in case.checks))
        return _graded(case, number, outcome, checks, _since(started))
    return Trial(case.id, number, False, 0.0, error=error, duration_ms=_since(started))


def _check(check: Check, evidence: Evidence) -> CheckResult:
    why = check.failure(evidence)
    return CheckResult(check.label, why is None, why)


def _graded(
    case: Case,
    number: int,
    outcome: CaseOutcome,
    checks: tuple[CheckResult, ...],
    duration_ms: float,
) -> Trial:
    result = outcome.result
    held = sum(check.passed for check in checks)
    return Trial(
        case=case.id,
        number=number,
        passed=held == len(checks),
        score=held / len(checks),
        checks=checks,
        run=result.run,
        status=result.status,
        output=result.output,
        error=result.error,
        steps=result.steps,
        input_tokens=result.usage.input_tokens,
        output_tokens=result.usage.output_tokens,
        cost_usd=result.usage.cost_usd,
        duration_ms=duration_ms,
    )


def _workspace(case: Case) -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="corral-eval-", ignore_cleanup_errors=True)
    try:
        for name, content in case.files.items():
            path = Path(folder.name, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    except BaseException:
        with contextlib.suppress(OSError):
            folder.cleanup()
        raise
    return folder


def _since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 3)
