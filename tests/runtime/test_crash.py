"""kill -9 at every write of the journal, then resume: no finished call happens twice."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from pathlib import Path

import pytest

import corral
from corral.runtime.views import Approval, RunResult
from tests.runtime.crash_child import TURNS, agent, child, settings

BOUNDARIES = 36

# A fork server imports Corral once; each killed process is then a cheap fork of it.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.runtime.crash_child", "corral.agents.app"])


def run_child(place: Path, kill_at: int) -> int | None:
    """The exit code of a run that is killed at a boundary."""
    (place / "w").mkdir()
    args = (place / "h", place / "w", kill_at, place / "report.json")
    process = processes.Process(target=child, args=args)
    process.start()
    process.join(60)
    return process.exitcode


def calls_made(place: Path) -> Counter[str]:
    log = place / "w" / "calls.log"
    return Counter(log.read_text().split()) if log.exists() else Counter()


def undisturbed_calls() -> Counter[str]:
    return Counter(["one", "two", "look", "three"])


async def resume_until_done(place: Path) -> tuple[RunResult, list[Approval]]:
    """Resume the only run; calls in doubt are answered with "make it again"."""
    asked: list[Approval] = []

    async def approver(approval: Approval) -> corral.Approved:
        asked.append(approval)
        return corral.Approved()

    async with corral.open(settings(place / "h", place / "w")) as c:
        (run,) = await c.records.runs()
        options = corral.RunOptions(agent=agent(place / "w"), approver=approver)
        result = await c.resume(run.run, options)
        report = await c.replay(result.run, options)
        assert report.status == "identical", report.divergence
    return result, asked


@pytest.mark.parametrize("kill_at", range(1, BOUNDARIES + 1))
async def test_a_killed_run_resumes_without_repeating_a_finished_call(
    tmp_path: Path, kill_at: int
) -> None:
    assert run_child(tmp_path, kill_at) == -9
    before = calls_made(tmp_path)

    result, asked = await resume_until_done(tmp_path)

    assert result.status == "completed"
    assert result.output == TURNS[-1]["text"]
    assert result.steps == len(TURNS)
    # A call that was cut off is asked about; only such a one, or a look, can happen again.
    in_doubt = Counter(approval.args["text"] for approval in asked)
    repeated = calls_made(tmp_path) - undisturbed_calls()
    assert set(repeated) <= {*in_doubt, "look"}
    assert not undisturbed_calls() - calls_made(tmp_path)
    assert all(approval.kind == "in_doubt" for approval in asked)
    assert set(repeated) <= set(before)


def test_the_boundaries_that_are_tested_are_all_there_are(tmp_path: Path) -> None:
    assert run_child(tmp_path, 0) == 0
    said = json.loads((tmp_path / "report.json").read_text())
    assert said["status"] == "completed"
    assert said["boundaries"] == BOUNDARIES
