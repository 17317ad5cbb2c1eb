"""kill -9 at every transaction around questions and answers: nothing asked or answered is lost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

import corral
from corral.runtime.views import Approval
from tests.runtime.crash_child import (
    TURNS,
    agent,
    answer,
    approver,
    asking_child,
    asking_settings,
)
from tests.runtime.test_crash import calls_made, processes

BOUNDARIES = 150
"""Group commit makes the number vary by a few; the last ones may not be reached."""


def run_child(place: Path, kill_at: int) -> int | None:
    """The exit code of an asking run that is killed at a transaction."""
    (place / "w").mkdir()
    args = (place / "h", place / "w", kill_at, place / "report.json")
    process = processes.Process(target=asking_child, args=args)
    process.start()
    process.join(60)
    return process.exitcode


@pytest.mark.parametrize("kill_at", [*range(1, 40), *range(40, BOUNDARIES, 6)])
async def test_a_run_that_asks_survives_a_kill_at_any_transaction(
    tmp_path: Path, kill_at: int
) -> None:
    code = await asyncio.to_thread(run_child, tmp_path, kill_at)
    assert code in (-9, 0)
    before = calls_made(tmp_path)
    asked: dict[str, Approval] = {}
    options = corral.RunOptions(agent=agent(tmp_path / "w"))
    async with corral.open(asking_settings(tmp_path / "h", tmp_path / "w")) as c:
        for run in await c.records.runs(limit=1):
            if run.status == "completed":
                continue
            result = await c.resume(run.run, options)
            while result.status == "paused":
                asked |= {approval.id: approval for approval in result.approvals}
                await answer(c, result.approvals[0])
                result = await c.resume(run.run, options)
            assert result.status == "completed", result.error
            assert result.output == TURNS[-1]["text"]
        thread = (await c.records.runs())[0].thread if await c.records.runs() else None
        again = corral.RunOptions(agent=agent(tmp_path / "w"), thread=thread)
        result = await c.run("And again.", again)
        while result.status == "paused":
            await answer(c, result.approvals[0])
            result = await c.resume(result.run, again)
        assert result.status == "completed", result.error
        for run in await c.records.runs():
            assert run.status == "completed"
            report = await c.replay(run.run)
            assert report.status == "identical", report.divergence
        count = len(await c.records.runs())
    made = calls_made(tmp_path)
    in_doubt = Counter(a.args["text"] for a in asked.values() if a.kind == "in_doubt")
    assert set(made) <= {"uno", "three", "look"}
    assert count <= made["uno"] <= count + in_doubt["uno"]
    assert count <= made["three"] <= count + in_doubt["three"]
    assert not before - made


@pytest.mark.parametrize("kill_at", range(8, 40, 3))
async def test_a_killed_run_that_is_given_up_leaves_a_thread_that_goes_on(
    tmp_path: Path, kill_at: int
) -> None:
    assert await asyncio.to_thread(run_child, tmp_path, kill_at) == -9
    async with corral.open(asking_settings(tmp_path / "h", tmp_path / "w")) as c:
        (killed,) = await c.records.runs()
        if killed.status != "stopped":
            await c.records.cancel(killed.run)
        assert await c.approvals() == []
        options = corral.RunOptions(
            agent=agent(tmp_path / "w"), thread=killed.thread, approver=approver
        )
        for _ in range(2):
            assert (await c.run("Something else.", options)).status == "completed"
        for run in await c.records.runs():
            report = await c.replay(run.run)
            assert report.status == "identical", report.divergence


def test_the_transactions_that_are_tested_are_nearly_all_there_are(tmp_path: Path) -> None:
    assert run_child(tmp_path, 0) == 0
    said = json.loads((tmp_path / "report.json").read_text())
    assert said["status"] == "completed"
    assert BOUNDARIES - 30 <= said["boundaries"] <= BOUNDARIES
