"""Replay: the whole run offline, or the first difference by name."""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
from typing import Any

import pytest
from sqlalchemy import update

import corral
from corral.errors import ModelError
from corral.runtime.config import Settings
from corral.runtime.tables import effects, runs
from tests.runtime.agents import Ledger, Turn, scripted, turn

SCRIPT: list[Turn] = [turn("Look.", balance={}), turn("Done.")]


class Untouchable:
    """A model that must not be used."""

    name = "untouchable"
    context_window = 1000

    def stream(self, request: Any) -> Any:
        raise AssertionError("a replay asked a model")

    def check_complete(self, turns: int) -> None:
        raise AssertionError("a replay asked a model")

    async def aclose(self) -> None:
        """Nothing to free."""


def options(ledger: Ledger, script: list[Turn] = SCRIPT) -> corral.RunOptions:
    return corral.RunOptions(agent=scripted(script, *ledger.tools()))


async def test_a_replay_opens_no_model_no_server_and_no_socket(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise AssertionError("a replay reached out")

    ledger = Ledger()
    async with corral.open(settings) as c:
        run = await c.run("Look.", options(ledger))
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(subprocess, "Popen", refuse)
        monkeypatch.setattr(ledger, "paid", None)
        agent = corral.Agent(chat_model=Untouchable(), servers=(), facts=0)
        report = await c.replay(run.run, corral.RunOptions(agent=agent, model=run.run))
    assert report.status == "diverged"  # another model was named: the request differs
    async with corral.open(settings) as c:
        report = await c.replay(run.run)
    assert (report.status, report.executed) == ("identical", 0)
    assert report.effects == report.reused == 4


async def test_a_second_run_of_a_thread_replays_from_where_the_thread_stood(
    settings: Settings,
) -> None:
    ledger = Ledger()
    async with corral.open(settings) as c:
        first = await c.run("Look.", options(ledger))
        again = dataclasses.replace(options(ledger), thread=first.thread)
        second = await c.run("Look again.", again)
        third = await c.run("And again.", again)
        for run in (first, second, third):
            report = await c.replay(run.run)
            assert report.status == "identical", report.divergence


async def test_a_changed_agent_diverges_at_the_first_request_that_differs(
    settings: Settings,
) -> None:
    ledger = Ledger()
    async with corral.open(settings) as c:
        run = await c.run("Look.", options(ledger))
        changed = scripted(SCRIPT, *ledger.tools(), instructions="Be brief.")
        report = await c.replay(run.run, corral.RunOptions(agent=changed))
    assert report.status == "diverged"
    assert "1.model" in str(report.divergence)
    assert "Be brief." in str(report.divergence)


async def test_a_changed_record_is_found(settings: Settings) -> None:
    ledger = Ledger()
    async with corral.open(settings) as c:
        run = await c.run("Look.", options(ledger))
        changed = (
            update(effects)
            .where(effects.c.kind == "tool")
            .values(result='{"text":"other","is_error":false,"structured":null,"dropped":0}')
        )
        await c.records.database.write(lambda connection: connection.execute(changed))
        report = await c.replay(run.run)
    assert report.status == "diverged"
    assert "other" in str(report.divergence)


async def test_stopped_paused_and_failed_runs_replay_to_where_they_ended(
    settings: Settings,
) -> None:
    ledger = Ledger()
    failing = [turn("Look.", balance={}), {"error": "the model broke"}]
    async with corral.open(settings) as c:
        failed = await c.run("Look.", options(ledger, failing))
        assert failed.status == "failed"
        assert "the model broke" in str(failed.error)
        paused = await c.run("Pay.", options(ledger, [turn("P.", pay={"amount": 1}), turn("Q.")]))
        assert paused.status == "paused"
        limits = corral.RunLimits(max_steps=1)
        short = dataclasses.replace(options(ledger), limits=limits)
        stopped = await c.run("Look.", short)
        assert stopped.status == "stopped"
        for run in (failed, paused, stopped):
            report = await c.replay(run.run)
            assert report.status == "identical", (run.status, report.divergence)


async def test_a_failed_run_is_resumed_and_then_replays(settings: Settings) -> None:
    ledger = Ledger()
    failing = [turn("Look.", balance={}), {"error": "the model broke"}]
    async with corral.open(settings) as c:
        failed = await c.run("Look.", options(ledger, failing))
        done = await c.resume(failed.run, options(ledger))
        assert (done.status, done.output) == ("completed", "Done.")
        assert (await c.replay(done.run)).status == "identical"


async def test_a_script_with_turns_left_over_fails_the_run(settings: Settings) -> None:
    async with corral.open(settings) as c:
        run = await c.run("Hi.", options(Ledger(), [turn("Done."), turn("Never said.")]))
    assert run.status == "failed"
    assert "1" in str(run.error)
    assert ModelError.__name__ not in str(run.error)


async def test_a_replay_says_what_code_has_changed_since(settings: Settings) -> None:
    def look(at: int) -> str:
        """Look."""
        return f"seen {at}"

    first = look

    def look(at: int) -> str:  # type: ignore[no-redef]  # the point of the test
        """Look."""
        return f"seen {at} again"

    script = [turn("Look.", nothing={}), turn("Done.")]
    async with corral.open(settings) as c:
        run = await c.run("Look.", corral.RunOptions(agent=scripted(script, first)))
        assert (await c.replay(run.run)).changed == ()
        same = await c.replay(run.run, corral.RunOptions(agent=scripted(script, first)))
        assert (same.status, same.changed) == ("identical", ())
        other = await c.replay(run.run, corral.RunOptions(agent=scripted(script, look)))
        assert other.status == "identical"  # what the function gave is in the journal
        assert other.changed == ("the code of the function look",)
        old = json.dumps({"corral": "0.0.9", "graph": "react/0"})
        await c.records.database.write(lambda db: db.execute(update(runs).values(code=old)))
        older = await c.replay(run.run)
        assert any("0.0.9" in change for change in older.changed)
        assert any("react/0" in change for change in older.changed)
