"""A call that was cut off: it is made again, given its result, or failed, and all that replays."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.errors import ConflictError, UsageError
from corral.runtime.config import Settings
from corral.runtime.events import ToolStarted
from corral.runtime.records import MAX_GIVEN
from corral.runtime.views import Approval, EffectView
from tests.runtime.agents import scripted, turn

PASSWORD = "correct-horse-battery-staple-94"


class Till:
    """A tool that stands still in its first call."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.begins = asyncio.Event()

    def agent(self) -> corral.Agent:
        async def pay(amount: int) -> str:
            """Pay."""
            self.begun.append(amount)
            self.begins.set()
            if len(self.begun) == 1:
                await asyncio.Event().wait()
            return f"paid {amount}"

        return scripted([turn("Paying.", pay={"amount": 5}), turn("Paid.")], pay)


@dataclasses.dataclass
class Doubt:
    """A run that was cut off in its call, and now asks about it."""

    c: corral.Corral
    till: Till
    options: corral.RunOptions
    approval: Approval

    async def finish(self) -> EffectView:
        """Go on to the end, which must be good and must replay; the call as it is recorded."""
        done = await self.c.resume(self.approval.run, self.options)
        assert (done.status, done.output) == ("completed", "Paid."), done.error
        report = await self.c.replay(done.run, self.options)
        assert report.status == "identical", report.divergence
        (call,) = [e for e in await self.c.records.trace(done.run) if e.kind == "tool"]
        return call

    async def answered(self) -> Approval:
        return await self.c.records.approval(self.approval.id)


@pytest.fixture
async def doubt(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Doubt]:
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    rules = [{"tool": "functions__*", "action": "allow"}]
    allowing = corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    )
    till = Till()
    options = corral.RunOptions(agent=till.agent())
    async with corral.open(allowing) as c:
        async with contextlib.aclosing(c.stream("Pay.", options)) as events:
            async for event in events:
                if isinstance(event, ToolStarted):
                    await till.begins.wait()
                    break
        (run,) = await c.records.runs()
        paused = await c.resume(run.run, options)
        assert paused.status == "paused"
        (approval,) = paused.approvals
        assert approval.kind == "in_doubt"
        assert "Retry it, give the result" in approval.reason
        yield Doubt(c, till, options, approval)


async def test_it_is_made_again(doubt: Doubt) -> None:
    await doubt.c.approve(doubt.approval.id)
    call = await doubt.finish()
    assert doubt.till.begun == [5, 5]
    assert (call.attempts, text(call)) == (2, "paid 5")
    assert (await doubt.answered()).status == "approved"


async def test_its_result_is_given_by_hand(doubt: Doubt) -> None:
    await doubt.c.give(doubt.approval.id, "paid 5, receipt 77")
    call = await doubt.finish()
    assert doubt.till.begun == [5], "it is not made again"
    assert text(call) == "paid 5, receipt 77"
    assert isinstance(call.result, dict)
    assert call.result["is_error"] is False
    answered = await doubt.answered()
    assert (answered.status, answered.answer_result) == ("given", "paid 5, receipt 77")


async def test_it_is_failed(doubt: Doubt) -> None:
    await doubt.c.deny(doubt.approval.id, "the till is closed")
    call = await doubt.finish()
    assert doubt.till.begun == [5]
    assert "unknown whether this call was made: the till is closed" in text(call)
    assert isinstance(call.result, dict)
    assert call.result["is_error"] is True


async def test_an_approver_gives_the_result(doubt: Doubt) -> None:
    async def approver(approval: Approval) -> corral.Given:
        return corral.Given(f"{approval.args['amount']} was paid")

    doubt.options = dataclasses.replace(doubt.options, approver=approver)
    assert text(await doubt.finish()) == "5 was paid"
    assert doubt.till.begun == [5]


async def test_a_long_result_and_what_is_secret_or_unseen_in_it(doubt: Doubt) -> None:
    """It is stored as a tool's own would be: redacted, without control characters, compressed."""
    long = "receipt \x1b[31m" + PASSWORD + " " + "0123456789" * 2000
    await doubt.c.give(doubt.approval.id, long)
    told = text(await doubt.finish())
    assert told.endswith("0123456789" * 2000)
    assert "[redacted" in told
    assert "\x1b" not in told
    database = Path(doubt.c.settings.home)
    stored = b"".join(path.read_bytes() for path in database.rglob("corral.db*"))
    assert PASSWORD.encode() not in stored


async def test_answers_that_are_refused_answer_nothing(doubt: Doubt) -> None:
    c, key = doubt.c, doubt.approval.id
    with pytest.raises(UsageError, match="has 200,001 characters"):
        await c.give(key, "x" * (MAX_GIVEN + 1))
    with pytest.raises(UsageError, match="Other arguments cannot answer"):
        await c.approve(key, args={"amount": 6})
    with pytest.raises(UsageError, match="A rule for such calls cannot answer"):
        await c.approve(key, always=True)
    assert (await doubt.answered()).status == "pending"
    assert await c.records.standing_rules(str(c.settings.workspace)) == []
    await c.give(key, "")
    assert text(await doubt.finish()) == ""
    for again in (c.give(key, "paid"), c.approve(key), c.deny(key, "no")):
        with pytest.raises(ConflictError, match=r"was answered \(given\)"):
            await again


def test_the_synchronous_front_gives_results_too(settings: Settings) -> None:
    """In a thread of its own, as its callers are."""
    with corral.open_sync(settings) as c, pytest.raises(corral.CorralError, match="no approval"):
        c.give("a-none", "paid")


def text(call: EffectView) -> str:
    result: Any = call.result
    return str(result["text"])
