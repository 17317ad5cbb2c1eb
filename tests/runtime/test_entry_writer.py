"""How starts and ends of effects get into the database: in order, and no more often than needed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import pytest

import corral
from corral.errors import StorageError
from corral.runtime.config import Settings
from corral.runtime.effects import Attempt, Effect, Outcome
from corral.runtime.journal import Journal
from tests.runtime.agents import scripted, turn
from tests.sandbox.inside import wait_until

Rows = list[tuple[str, str]]


async def _nothing(_attempt: Attempt) -> Outcome:
    raise AssertionError("nothing is made here")


def effect(name: str, *, repeatable: bool = True) -> Effect:
    return Effect("value", name, {"name": name}, _nothing, repeatable=repeatable)


class Run:
    """A run that is stored, its journal, and what another connection sees of that."""

    def __init__(self, opened: corral.Corral, run: str, settings: Settings) -> None:
        self.id = run
        self._database = opened.records.database
        self._path = settings.home / "corral.db"

    async def journal(self) -> Journal:
        return await Journal.load(self._database, self.id)

    def rows(self) -> Rows:
        """The entries that are committed, by their order: path and status."""
        with sqlite3.connect(self._path) as other:
            found = other.execute(
                "SELECT path, status FROM effects WHERE run_id = ? AND kind = 'value' ORDER BY seq",
                (self.id,),
            )
            return found.fetchall()


@pytest.fixture
async def run(settings: Settings) -> AsyncIterator[Run]:
    async with corral.open(settings) as opened:
        done = await opened.run("Hello.", corral.RunOptions(agent=scripted([turn("Hi.")])))
        yield Run(opened, done.run, settings)


async def start(journal: Journal, path: str, **how: Any) -> Any:
    made = effect(path, **how)
    return await journal.start(path, made, journal.identify(made))


async def test_an_effect_that_ends_at_once_is_written_once(run: Run) -> None:
    journal = await run.journal()
    entry = await start(journal, "9.a#0")
    assert run.rows() == []
    await journal.finish(entry, Outcome({"text": "done"}), 1.0)
    assert run.rows() == [("9.a#0", "finished")]
    again = (await run.journal()).find("9.a#0")
    assert again is not None
    assert (again.result, again.request, again.attempts) == ({"text": "done"}, {"name": "9.a#0"}, 1)


async def test_one_that_takes_its_time_is_seen_meanwhile(run: Run) -> None:
    journal = await run.journal()
    entry = await start(journal, "9.a#0")
    await asyncio.to_thread(wait_until, lambda: bool(run.rows()), "the start")
    assert run.rows() == [("9.a#0", "started")]
    await journal.finish(entry, Outcome({}), 1.0)
    assert run.rows() == [("9.a#0", "finished")]


async def test_what_is_stored_next_takes_earlier_starts_along(run: Run) -> None:
    journal = await run.journal()
    first, second = await start(journal, "9.a[0]#0"), await start(journal, "9.a[1]#0")
    await journal.finish(second, Outcome({}), 1.0)
    assert run.rows() == [("9.a[0]#0", "started"), ("9.a[1]#0", "finished")]
    await journal.finish(first, Outcome({}), 1.0)
    await start(journal, "10.a#0")
    await start(journal, "11.a#0", repeatable=False)
    assert run.rows()[2:] == [("10.a#0", "started"), ("11.a#0", "started")]


async def test_a_question_takes_earlier_starts_along(run: Run) -> None:
    journal = await run.journal()
    await start(journal, "9.a#0")
    journal.waiting("9.a#0/approval", "a", {})
    await asyncio.to_thread(wait_until, lambda: bool(run.rows()), "the start")


async def test_one_that_is_made_again_is_the_same_row(run: Run) -> None:
    journal = await run.journal()
    failed = await start(journal, "9.a#0")
    await journal.fail(failed, StorageError("no"), 1.0)
    assert run.rows() == [("9.a#0", "failed")]
    entry = await start(journal, "9.a#0")
    await journal.finish(entry, Outcome({"text": "yes"}), 1.0)
    assert run.rows() == [("9.a#0", "finished")]
    again = (await run.journal()).find("9.a#0")
    assert again is not None
    assert (again.attempts, again.result) == (2, {"text": "yes"})


async def test_one_that_is_cut_off_leaves_its_row(run: Run) -> None:
    journal = await run.journal()
    await start(journal, "9.a#0")
    journal.cancel("9.a#0", 1.0)
    await asyncio.to_thread(wait_until, lambda: bool(run.rows()), "the end")
    assert run.rows() == [("9.a#0", "cancelled")]


async def test_long_contents_are_stored_beside_the_row(run: Run) -> None:
    journal = await run.journal()
    made = Effect("value", "long", {"text": "q" * 10_000}, _nothing)
    entry = await journal.start("9.a#0", made, journal.identify(made))
    await journal.finish(entry, Outcome({"text": "a" * 10_000}), 1.0)
    again = (await run.journal()).find("9.a#0")
    assert again is not None
    assert (again.request, again.result) == (made.request, {"text": "a" * 10_000})


async def test_an_entry_that_somebody_else_has_made_since_is_not_overwritten(run: Run) -> None:
    mine, other = await run.journal(), await run.journal()
    late = await start(mine, "9.a#0")
    entry = await start(other, "9.b#0")
    await other.finish(entry, Outcome({}), 1.0)
    with pytest.raises(StorageError, match="stored"):
        await mine.finish(late, Outcome({}), 1.0)
    assert run.rows() == [("9.b#0", "finished")]
