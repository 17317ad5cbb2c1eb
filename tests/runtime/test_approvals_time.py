"""Questions that nobody answers: denied after a time, asked of the next, and waited for."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

import corral
from corral.errors import ConfigError, ConflictError
from corral.runtime.approvals.settings import ApprovalSettings
from corral.runtime.clock import ago
from corral.runtime.config import Settings, load_settings
from corral.runtime.events import ApprovalRequested, RunFinished
from corral.runtime.records import open_records
from corral.runtime.tables import approvals
from corral.runtime.views import Approval, RunResult
from tests.runtime.agents import Ledger, Listening, Turn, scripted, turn

PAY: list[Turn] = [turn("Paying.", pay={"amount": 3}), turn("Done.")]
HOUR = timedelta(hours=1)


def options(ledger: Ledger, turns: list[Turn] = PAY, **more: Any) -> corral.RunOptions:
    return corral.RunOptions(agent=scripted(turns, *ledger.tools()), **more)


def with_approvals(settings: Settings, **fields: Any) -> Settings:
    return settings.model_copy(update={"approvals": ApprovalSettings(**fields)})


async def set_back(c: corral.Corral, by: timedelta) -> None:
    """Let the open questions be older by so much."""
    database = c.records.database
    rows = await database.read(lambda connection: connection.execute(select(approvals)).all())
    values = {"created_at": ago(by), "expires_at": ago(timedelta(minutes=1))}
    if not any(row.expires_at for row in rows):
        del values["expires_at"]
    change = update(approvals).where(approvals.c.status == "pending").values(values)
    await database.write(lambda connection: connection.execute(change))


class TestTimeout:
    async def test_a_resume_after_it_sees_the_denial(self, settings: Settings) -> None:
        ledger, model = Ledger(), Listening(PAY)
        agent = corral.Agent(functions=ledger.tools(), servers=(), chat_model=model, facts=0)
        async with corral.open(with_approvals(settings, timeout="24h")) as c:
            paused = await c.run("Pay.", corral.RunOptions(agent=agent))
            assert paused.approvals[0].expires_at is not None
            await set_back(c, HOUR * 25)
            done = await c.resume(paused.run, corral.RunOptions(agent=agent))
            assert (done.status, ledger.paid) == ("completed", [])
            (asked,) = await c.records.approvals(status=None)
            assert (asked.status, asked.answered_by) == ("denied", "timeout")
            assert (
                await c.replay(paused.run, corral.RunOptions(agent=agent))
            ).status == "identical"
        assert "This call was denied: nobody answered by" in model.heard[-1]

    async def test_whoever_looks_next_applies_it_whatever_their_settings_are(
        self, settings: Settings
    ) -> None:
        async with corral.open(with_approvals(settings, timeout="24h")) as c:
            paused = await c.run("Pay.", options(Ledger()))
            (asked,) = paused.approvals
            await set_back(c, HOUR * 25)
        async with open_records(settings) as records:
            assert await records.approvals() == []
            (entry,) = [e for e in await records.trace(paused.run) if e.kind == "approval"]
            assert entry.status == "finished"
            assert isinstance(entry.result, dict)
            assert entry.result["by"] == "timeout"
            with pytest.raises(ConflictError, match=r"denied.*by timeout"):
                await records.approve(asked.id)

    async def test_without_one_a_question_waits_for_ever(self, settings: Settings) -> None:
        async with corral.open(settings) as c:
            await c.run("Pay.", options(Ledger()))
            await set_back(c, HOUR * 24 * 365)
            (asked,) = await c.approvals()
            assert asked.expires_at is None


class TestEscalation:
    async def test_each_in_the_list_has_their_turn(self, settings: Settings) -> None:
        chosen = with_approvals(settings, escalate_after="1h", escalate_to=("lead", "oncall"))
        async with corral.open(chosen) as c:
            await c.run("Pay.", options(Ledger()))
            turns = []
            for hours in (0.5, 1.5, 2.5, 9.0):
                await set_back(c, HOUR * hours)
                turns += [asked.asked_of for asked in await c.approvals()]
            assert turns == [None, "lead", "oncall", "oncall"]
            assert await c.records.approvals(asked_of="lead") == []
            (asked,) = await c.records.approvals(asked_of="oncall")
            assert asked.escalated_at is not None
            assert (await c.approve(asked.id)).status == "approved"

    async def test_a_command_is_told_of_each_question_without_secrets(
        self, settings: Settings
    ) -> None:
        told = settings.home / "told.jsonl"
        script = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + '\\n')"
        chosen = with_approvals(
            settings,
            escalate_after="1h",
            escalate_to=("lead",),
            notify=(sys.executable, "-c", script),
        )
        key = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"

        def send(text: str) -> str:
            """Send a text."""
            return text

        agent = scripted([turn(send={"text": f"the key is {key}"}), turn()], send)
        async with corral.open(chosen) as c:
            await c.run("Send it.", corral.RunOptions(agent=agent))
            await set_back(c, HOUR * 2)
            await c.approvals()
            await c.approvals()
        events = [json.loads(line) for line in told.read_text().splitlines()]
        assert [event["event"] for event in events] == ["asked", "escalated"]
        assert events[1]["asked_of"] == "lead"
        assert events[0]["tool"] == "functions__send"
        assert key not in told.read_text()

    async def test_a_command_that_fails_disturbs_nothing(self, settings: Settings) -> None:
        for command in (("no-such-command",), (sys.executable, "-c", "raise SystemExit(3)")):
            async with corral.open(with_approvals(settings, notify=command)) as c:
                assert (await c.run("Pay.", options(Ledger()))).status == "paused"


class TestWaiting:
    async def run(self, c: corral.Corral, ledger: Ledger, asked: asyncio.Queue[str]) -> RunResult:
        """A run that waits; its questions go into the queue."""
        result: RunResult | None = None
        async for event in c.stream("Pay.", options(ledger, wait=True)):
            match event:
                case ApprovalRequested():
                    await asked.put(event.approval.id)
                case RunFinished():
                    result = event.result
                case _:
                    pass
        assert result is not None
        return result

    @pytest.mark.parametrize("answer", ["approve", "deny", "stop", "expire", "cancel"])
    async def test_a_run_goes_on_by_an_answer_from_elsewhere(
        self, settings: Settings, answer: str
    ) -> None:
        ledger = Ledger()
        asked: asyncio.Queue[str] = asyncio.Queue()
        async with corral.open(with_approvals(settings, timeout="24h")) as c:
            run = asyncio.create_task(self.run(c, ledger, asked))
            question = await asked.get()
            async with open_records(settings) as records:
                await self.give(c, records.approval, question, answer)
            result = await run
        ended = {"stop": "stopped", "cancel": "stopped"}.get(answer, "completed")
        assert (result.status, result.approvals) == (ended, ())
        assert ledger.paid == ([3] if answer == "approve" else [])

    async def give(self, c: corral.Corral, look: Any, question: str, answer: str) -> None:
        records = c.records
        match answer:
            case "approve":
                await records.approve(question)
            case "deny":
                await records.deny(question, "no")
            case "stop":
                await records.stop(question)
            case "expire":
                await set_back(c, HOUR * 25)
            case "cancel":
                run = (await look(question)).run
                while (await records.run(run)).status != "paused":  # noqa: ASYNC110  a row, no event
                    await asyncio.sleep(0)
                await records.cancel(run)


class TestSettings:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('timeout = "soon"', "timeout"),
            ("escalate_to = ['lead']", "need each other"),
            ('escalate_after = "1h"', "need each other"),
            ('timeuot = "1h"', "Did you mean 'timeout'"),
        ],
    )
    def test_what_cannot_be_understood_is_said(
        self, settings: Settings, text: str, words: str
    ) -> None:
        file = settings.home / "own.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"[approvals]\n{text}\n")
        with pytest.raises(ConfigError, match=words):
            load_settings({"config": file})

    def test_a_project_decides_nothing_about_it(self, settings: Settings) -> None:
        (settings.workspace / "corral.toml").write_text('[approvals]\nnotify = ["evil"]\n')
        with pytest.raises(ConfigError, match="may not set approvals"):
            load_settings({"workspace": settings.workspace})


async def test_an_approver_that_is_too_late_leaves_the_denial(settings: Settings) -> None:
    ledger = Ledger()
    async with corral.open(with_approvals(settings, timeout="24h")) as c:

        async def slow(_: Approval) -> corral.Approved:
            await set_back(c, HOUR * 25)
            return corral.Approved()

        result = await c.run("Pay.", options(ledger, approver=slow))
    assert (result.status, ledger.paid) == ("completed", [])
