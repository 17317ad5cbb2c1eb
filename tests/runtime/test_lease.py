"""Who runs a thread: signs of life, holders that cannot be seen, and sleepers that wake."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

import corral
from corral.errors import ConflictError
from corral.runtime import lease
from corral.runtime.config import Settings
from corral.runtime.events import ToolStarted
from corral.runtime.tables import runs, threads
from tests.runtime.agents import scripted, turn


@pytest.fixture
def allowing(settings: Settings) -> Settings:
    """Settings that let the tools through."""
    rules = [{"tool": "functions__*", "action": "allow"}]
    return corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    )


class Till:
    """An agent that pays twice; the first call waits for ``open`` if it is shut."""

    def __init__(self, *, shut: bool) -> None:
        self.paid: list[int] = []
        self.begins, self.open = asyncio.Event(), asyncio.Event()
        if not shut:
            self.open.set()

        async def pay(amount: int) -> str:
            """Pay."""
            self.paid.append(amount)
            self.begins.set()
            await self.open.wait()
            return f"paid {amount}"

        turns = [turn("First.", pay={"amount": 1}), turn("Then.", pay={"amount": 2}), turn("Paid.")]
        self.options = corral.RunOptions(agent=scripted(turns, pay))


async def change(c: corral.Corral, **fields: Any) -> None:
    """Change what the only lease says of its holder."""

    def work(connection: Connection) -> None:
        stored = json.loads(connection.execute(select(threads.c.lease)).scalar_one())
        connection.execute(update(threads).values(lease=json.dumps({**stored, **fields})))

    await c.records.database.write(work)


async def stored(c: corral.Corral) -> dict[str, Any]:
    text = await c.records.database.read(lambda d: d.execute(select(threads.c.lease)).scalar_one())
    found: dict[str, Any] = json.loads(text)
    return found


async def until(c: corral.Corral, true: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until the lease says something."""
    while not true(await stored(c)):  # noqa: ASYNC110  another task's write gives no sign
        await asyncio.sleep(0.01)


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


@contextlib.asynccontextmanager
async def running(c: corral.Corral, till: Till) -> AsyncIterator[asyncio.Task[corral.RunResult]]:
    """A run that stands in its first call."""
    work = asyncio.create_task(c.run("Pay.", till.options))
    await till.begins.wait()
    try:
        yield work
    finally:
        till.open.set()
        await asyncio.wait([work])


async def test_a_run_that_goes_on_gives_signs_of_life(
    allowing: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW", 0.01)
    till = Till(shut=True)
    async with corral.open(allowing) as c, running(c, till) as work:
        first = (await stored(c))["renewed"]
        await until(c, lambda holder: holder["renewed"] != first)
        till.open.set()
        assert (await work).status == "completed"


async def test_a_holder_that_cannot_be_seen_is_gone_when_it_has_been_silent(
    allowing: Settings,
) -> None:
    """As a container is that was started anew: another name, and its process id says nothing."""
    till = Till(shut=True)
    held: dict[str, Any] = {}
    async with corral.open(allowing) as c:
        async with contextlib.aclosing(c.stream("Pay.", till.options)) as events:
            async for event in events:
                if isinstance(event, ToolStarted):
                    held = await stored(c)
                    break
        till.open.set()
        (run,) = await c.records.runs()

        def cut_off(seconds: float) -> Callable[[Connection], None]:
            there = {**held, "host": "pod-1", "machine": "elsewhere", "renewed": ago(seconds)}

            def work(connection: Connection) -> None:
                connection.execute(update(runs).values(status="running"))
                connection.execute(update(threads).values(lease=json.dumps(there)))

            return work

        await c.records.database.write(cut_off(lease.SILENCE - 20))
        with pytest.raises(ConflictError, match=r"being run by process \d+ on pod-1") as caught:
            await c.resume(run.run, till.options)
        assert "free in 20 s" in caught.value.hint
        with pytest.raises(ConflictError, match="being run"):
            await c.records.cancel(run.run)

        await c.records.database.write(cut_off(lease.SILENCE + 1))
        paused = await c.resume(run.run, till.options)
        assert [approval.kind for approval in paused.approvals] == ["in_doubt"]


@pytest.mark.parametrize("renew", [1000.0, 0.01])
async def test_one_that_was_only_asleep_does_no_harm_when_it_wakes(
    allowing: Settings, monkeypatch: pytest.MonkeyPatch, renew: float
) -> None:
    """Whether it finds out by its next sign of life, or only when it wants to store something."""
    monkeypatch.setattr(lease, "RENEW", renew)
    sleeper, taker = Till(shut=True), Till(shut=False)
    async with corral.open(allowing) as c, corral.open(allowing) as other:
        async with running(c, sleeper) as work:
            (run,) = await c.records.runs()
            await change(c, machine="elsewhere", renewed=ago(lease.SILENCE + 1))
            if renew < 1:
                # Its sign of life comes back as one from here: it is not gone, and nobody gets in.
                await until(c, lambda holder: holder["machine"] != "elsewhere")
                with pytest.raises(ConflictError, match="being run"):
                    await other.resume(run.run, taker.options)
                await change(c, token="of another process", machine="elsewhere", renewed=ago(90))
            paused = await other.resume(run.run, taker.options)
            (asked,) = paused.approvals
            await other.give(asked.id, "paid 1")
            done = await other.resume(run.run, taker.options)
            assert (done.status, done.output) == ("completed", "Paid.")
            sleeper.open.set()
            with pytest.raises(ConflictError, match="was taken over by"):
                await work
        assert (sleeper.paid, taker.paid) == ([1], [2])
        assert (await c.records.run(run.run)).status == "completed"
        report = await c.replay(run.run, taker.options)
        assert report.status == "identical", report.divergence
        more = scripted([turn("And more.")])
        options = corral.RunOptions(agent=more, thread=run.thread)
        assert (await c.run("More.", options)).output == "And more."


async def test_a_lease_that_no_corral_has_written_holds_nobody_up(allowing: Settings) -> None:
    till = Till(shut=False)
    async with corral.open(allowing) as c:
        done = await c.run("Pay.", till.options)
        for text in ("", "{", "[]", "{}", '{"host": 1}', '"x"', "null"):

            def damage(connection: Connection, text: str = text) -> None:
                connection.execute(update(threads).values(lease=text))

            await c.records.database.write(damage)
            options = corral.RunOptions(agent=scripted([turn("Well.")]), thread=done.thread)
            assert (await c.run("Well?", options)).output == "Well."
