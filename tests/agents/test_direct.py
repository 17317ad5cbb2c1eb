"""One tool call as a run of its own: policy, approval, journal, replay, and no model."""

from __future__ import annotations

import pytest

import corral
from corral.errors import UsageError
from corral.runtime.approvals.replies import Approved, Denied
from corral.runtime.config import Settings

SECRET = "correct-horse-battery-94"
CODE = {"code": "print('hi')\n6 * 7"}


async def approve(_approval: corral.Approval) -> Approved:
    return Approved()


async def test_a_call_is_made_once_policy_and_a_human_let_it(settings: Settings) -> None:
    async with corral.open(settings) as c:
        waiting = await c.call_tool("python__run_code", CODE)
        assert (waiting.status, waiting.approvals[0].tool) == ("paused", "python__run_code")
        await c.approve(waiting.approvals[0].id)
        done = await c.resume(waiting.run)
        assert (done.status, done.output, done.steps) == ("completed", "hi\n42", 0)
        kinds = [entry.kind for entry in await c.records.trace(done.run)]
        assert kinds == ["prepare", "approval", "tool"]
        report = await c.replay(done.run)
        assert (report.status, report.executed) == ("identical", 0)


async def test_it_needs_no_model(settings: Settings) -> None:
    without = corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "model": "openai:none"}
    )
    (settings.workspace / "a.txt").write_text("one\n")
    async with corral.open(without) as c:
        done = await c.call_tool("files__read_file", {"path": "a.txt"})
        assert done.status == "completed"
        assert "one" in done.output
        await c.call_tool("memory__remember", {"text": "x"}, corral.RunOptions(approver=approve))


async def test_a_call_that_fails_is_a_run_that_fails(settings: Settings) -> None:
    async def deny(_approval: corral.Approval) -> Denied:
        return Denied("not today")

    async with corral.open(settings) as c:
        for tool, args, said in (
            ("files__read_file", {"path": "missing.txt"}, "missing.txt"),
            ("files__read_file", {"file": "a.txt"}, "path"),
            ("files__nothing", {}, "The tools of files are: list_directory, "),
            ("python__run_code", CODE, "not today"),
        ):
            failed = await c.call_tool(tool, args, corral.RunOptions(approver=deny))
            assert failed.status == "failed"
            assert said in str(failed.error)
            assert (await c.replay(failed.run)).status == "identical"


@pytest.mark.parametrize("tool", ["", "read_file", "__read_file", "files__"])
async def test_what_is_no_tools_name_starts_nothing(settings: Settings, tool: str) -> None:
    async with corral.open(settings) as c:
        with pytest.raises(UsageError, match="no tool's name"):
            await c.call_tool(tool, {})
        assert await c.records.runs() == []


async def test_secrets_are_not_stored_with_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAY_TOKEN", SECRET)
    async with corral.open(settings) as c:
        waiting = await c.call_tool("python__run_code", {"code": f"'{SECRET}'"})
        stored = [await c.records.run(waiting.run), *await c.records.trace(waiting.run)]
        assert SECRET not in str(stored)
    assert SECRET.encode() not in (settings.home / "corral.db").read_bytes()
