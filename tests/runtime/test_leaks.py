"""Many runs in one process leave nothing behind: no handle, no thread, no task, no memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
from pathlib import Path

import pytest

import corral
from corral.runtime.config import Settings
from tests.runtime.agents import Ledger, scripted, turn

pytestmark = pytest.mark.slow


def open_files() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def footprint() -> tuple[int, int]:
    while gc.collect():  # a class that is gone lets others go, which one pass does not see
        pass
    return open_files(), len(asyncio.all_tasks())


THREADS = 2 + 4 + min(32, (os.cpu_count() or 1) + 4) + threading.active_count()
"""The most that there may be: a writer, readers and asyncio's own pool, all of which are kept."""


async def one_of_each(c: corral.Corral, ledger: Ledger) -> None:
    script = [turn("Look.", balance={}), turn("Pay.", pay={"amount": 1}), turn("Done.")]
    options = corral.RunOptions(agent=scripted(script, *ledger.tools()))
    paused = await c.run("Go.", options)
    await c.approve(paused.approvals[0].id)
    assert (await c.resume(paused.run, options)).status == "completed"
    assert (await c.replay(paused.run)).status == "identical"
    async with contextlib.aclosing(c.stream("Go.", options)) as events:
        for _ in range(3):
            await anext(events)
    failing = corral.RunOptions(agent=scripted([{"error": "broken"}]))
    assert (await c.run("Go.", failing)).status == "failed"


async def test_two_hundred_runs_leave_nothing_behind(settings: Settings) -> None:
    ledger = Ledger()
    async with corral.open(settings) as c:
        for _ in range(5):
            await one_of_each(c, ledger)
        before = footprint()
        objects = len(gc.get_objects())
        for _ in range(62):
            await one_of_each(c, ledger)
        assert footprint() == before
        assert threading.active_count() <= THREADS
        # A run has hundreds of objects; one that is kept would show many times over.
        assert len(gc.get_objects()) - objects < 62 * 50


async def test_opening_and_closing_leaves_nothing_behind(settings: Settings) -> None:
    async def once() -> None:
        async with corral.open(settings) as c:
            await c.run("Hi.", corral.RunOptions(agent=scripted([turn("Hello.")])))

    for _ in range(3):
        await once()
    before = footprint()
    for _ in range(10):
        await once()
    assert footprint() == before


def test_the_synchronous_facade_too(settings: Settings) -> None:
    def once() -> None:
        with corral.open_sync(settings) as c:
            c.run("Hi.", corral.RunOptions(agent=scripted([turn("Hello.")])))

    once()
    gc.collect()
    before = open_files(), threading.active_count()
    for _ in range(10):
        once()
    gc.collect()
    assert (open_files(), threading.active_count()) == before
