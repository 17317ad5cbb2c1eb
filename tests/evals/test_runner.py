from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from corral.errors import ModelError, UsageError
from corral.evals.dataset import Case, Dataset
from corral.evals.grading import CaseOutcome
from corral.evals.report import Report, Trial, progress_line, table, write_json
from corral.evals.runner import CaseRunner, run_eval
from corral.runtime.views import RunResult, Totals


def dataset(*cases: dict[str, Any], **values: Any) -> Dataset:
    filled = [{"prompt": "p", "expect": [{"equals": "ok"}], **case} for case in cases]
    return Dataset.model_validate({"name": "set", "cases": filled, **values})


def done(output: str) -> CaseOutcome:
    return CaseOutcome(RunResult("r1", "t1", "completed", output, Totals(30, 5, 0.25), 2), [])


@dataclass
class Runner:
    """Runs a case by what its id says; keeps what it saw."""

    behaviour: Callable[[Case, Path], Awaitable[CaseOutcome]] | None = None
    running: int = 0
    most: int = 0
    seen: list[tuple[str, Path]] = field(default_factory=list)

    async def __call__(self, case: Case, workspace: Path) -> CaseOutcome:
        self.seen.append((case.id, workspace))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            if self.behaviour is not None:
                return await self.behaviour(case, workspace)
            return done("ok" if case.id.startswith("good") else "wrong")
        finally:
            self.running -= 1


def as_text(report: Report) -> str:
    stream = StringIO()
    Console(file=stream, width=120).print(table(report))
    return stream.getvalue()


async def test_cases_are_scored_and_counted() -> None:
    runner: CaseRunner = Runner()
    several = [{"equals": "ok"}, {"max_steps": 2}, {"contains": "o"}]
    report = await run_eval(
        dataset({"id": "good"}, {"id": "bad", "expect": several}, {"id": "good2"}), runner
    )
    assert [trial.case for trial in report.trials] == ["good", "bad", "good2"]
    assert [trial.passed for trial in report.trials] == [True, False, True]
    assert [trial.score for trial in report.trials] == [1.0, 0.75, 1.0]
    assert report.pass_rate == pytest.approx(2 / 3)
    assert not report.passed
    assert report.exit_code == 1
    bad = report.trials[1]
    assert (bad.run, bad.status, bad.steps, bad.input_tokens) == ("r1", "completed", 2, 30)
    assert bad.why == 'equals: "ok" — the answer is "wrong"'


@pytest.mark.parametrize(("threshold", "code"), [(0.5, 0), (0.51, 1), (0, 0), (1, 1)])
async def test_the_threshold_decides_the_exit_code(threshold: float, code: int) -> None:
    cases = dataset({"id": "good"}, {"id": "bad"}, threshold=threshold)
    assert (await run_eval(cases, Runner())).exit_code == code


async def test_a_case_that_raises_fails_alone() -> None:
    async def behave(case: Case, workspace: Path) -> CaseOutcome:
        match case.id:
            case "known":
                raise ModelError("The model is gone.", hint="Start it.")
            case "bug":
                raise ZeroDivisionError("division by zero")
            case "late":
                raise TimeoutError("socket")
            case _:
                return done("ok")

    cases = dataset({"id": "known"}, {"id": "bug"}, {"id": "late"}, {"id": "good"})
    report = await run_eval(cases, Runner(behave), concurrency=1)
    errors = {trial.case: trial.error for trial in report.trials}
    assert errors["known"] == "The model is gone.\n  Start it."
    assert errors["bug"] == "unexpected ZeroDivisionError: division by zero"
    assert errors["late"] == "unexpected TimeoutError: socket"
    assert errors["good"] is None
    assert report.pass_rate == 0.25
    assert "The model is gone." in as_text(report)


async def test_a_case_that_hangs_is_ended() -> None:
    async def behave(case: Case, workspace: Path) -> CaseOutcome:
        if case.id == "hangs":
            await asyncio.Event().wait()
        return done("ok")

    cases = dataset({"id": "hangs", "timeout": 0.05}, {"id": "good"})
    report = await run_eval(cases, Runner(behave), concurrency=1)
    assert [trial.passed for trial in report.trials] == [False, True]
    assert report.trials[0].error == "the run did not end within 0.05 s"


async def test_each_trial_has_a_fresh_folder_with_the_files_of_the_case() -> None:
    async def behave(case: Case, workspace: Path) -> CaseOutcome:
        assert (workspace / "sub/a.txt").read_text() == "hällo"
        (workspace / "sub/a.txt").write_text("changed")
        return done("ok")

    runner = Runner(behave)
    expect = [{"file_contains": {"path": "sub/a.txt", "text": "changed"}}]
    cases = dataset({"id": "good", "files": {"sub/a.txt": "hällo"}, "expect": expect})
    report = await run_eval(cases, runner, repeat=3)
    assert report.pass_rate == 1.0
    folders = {workspace for _, workspace in runner.seen}
    assert len(folders) == 3
    assert not any(folder.exists() for folder in folders)


async def test_at_most_so_many_run_at_once() -> None:
    meeting = asyncio.Barrier(3)

    async def behave(case: Case, workspace: Path) -> CaseOutcome:
        await meeting.wait()
        return done("ok")

    runner = Runner(behave)
    cases = dataset(*({"id": f"good{n}"} for n in range(9)))
    lines: list[str] = []

    def on_trial(trial: Trial, done: int, planned: int) -> None:
        lines.append(progress_line(trial, done, planned))

    report = await run_eval(cases, runner, concurrency=3, on_trial=on_trial)
    assert runner.most == 3
    assert len(report.trials) == 9
    assert [line.split("]")[0] for line in lines] == [f"[{n}/9" for n in range(1, 10)]
    assert all("pass" in line for line in lines)


async def test_repeats_give_a_pass_rate_for_each_case() -> None:
    answers = iter(["ok", "wrong", "ok", "worse"])

    async def behave(case: Case, workspace: Path) -> CaseOutcome:
        return done(next(answers))

    report = await run_eval(dataset({"id": "flaky"}), Runner(behave), concurrency=1, repeat=4)
    data = report.to_json()
    assert json.loads(json.dumps(data)) == data
    (case,) = data["cases"]
    assert (case["id"], case["passed"], case["pass_rate"]) == ("flaky", False, 0.5)
    assert [trial["number"] for trial in case["trials"]] == [1, 2, 3, 4]
    assert data["totals"]["input_tokens"] == 120
    assert data["totals"]["cost_usd"] == 1.0
    text = as_text(report)
    assert "2/4" in text
    assert '1 x equals: "ok"' in text


async def test_a_report_is_written_as_json(tmp_path: Path) -> None:
    async def behave(case: Case, workspace: Path) -> CaseOutcome:
        return done("odd \ud800 answer")

    report = await run_eval(dataset({"id": "a"}), Runner(behave))
    write_json(report, tmp_path / "out.json")
    data = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert data["cases"][0]["trials"][0]["output"] == "odd ? answer"
    assert data["threshold"] == 0.8
    for bad in (tmp_path, tmp_path / "no" / "out.json"):
        with pytest.raises(UsageError, match="cannot be written"):
            write_json(report, bad)


async def test_stopping_keeps_what_is_done() -> None:
    stop = asyncio.Event()
    ended: list[str] = []

    async def behave(case: Case, workspace: Path) -> CaseOutcome:
        if case.id == "good":
            return done("ok")
        stop.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(case.id)
        raise AssertionError

    cases = dataset({"id": "good"}, {"id": "hangs"}, {"id": "never"})
    runner = Runner(behave)
    report = await run_eval(cases, runner, concurrency=1, stop=stop)
    assert [trial.case for trial in report.trials] == ["good"]
    assert (report.interrupted, report.planned) == (True, 3)
    assert report.pass_rate == 1.0
    assert report.exit_code == 1
    assert ended == ["hangs"]
    assert not any(folder.exists() for _, folder in runner.seen)
    assert "interrupted: 1 of 3 done" in as_text(report)


async def test_being_cancelled_leaves_nothing_behind() -> None:
    started = asyncio.Event()

    async def behave(case: Case, workspace: Path) -> CaseOutcome:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    runner = Runner(behave)
    task = asyncio.create_task(run_eval(dataset({"id": "a"}), runner))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert runner.running == 0
    assert not any(folder.exists() for _, folder in runner.seen)


async def test_model_output_cannot_steer_the_terminal() -> None:
    async def behave(case: Case, workspace: Path) -> CaseOutcome:
        return done("\x1b[2J[red]\u202eevil\x07")

    report = await run_eval(dataset({"id": "a"}), Runner(behave))
    for text in (as_text(report), progress_line(report.trials[0], 1, 1)):
        assert "\x1b[2J" not in text
        assert "\u202e" not in text
        assert "\x07" not in text
        assert "[red]" in text
