"""A journal that is damaged: what is wrong is named, and everything else stays readable."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

import corral
from corral.errors import StorageError
from corral.runtime.config import Settings
from corral.runtime.tables import blobs, effects
from tests.runtime.agents import scripted, turn


@corral.tool(read_only=True)
def report(number: int) -> str:
    """A text too long for a row."""
    return "".join(f"{n * number} " for n in range(5000))


def reading() -> corral.RunOptions:
    turns = [turn("I read one.", report={"number": 1}), turn("And two.", report={"number": 2})]
    return corral.RunOptions(agent=scripted([*turns, turn("Read.")], report))


async def blob_of(c: corral.Corral, run: str) -> str:
    """The content of the run's first tool result."""
    query = (
        select(effects.c.result_blob)
        .where(effects.c.run_id == run, effects.c.kind == "tool")
        .order_by(effects.c.seq)
    )
    found = await c.records.database.read(lambda k: k.execute(query).scalars().first())
    assert found is not None
    return str(found)


@pytest.mark.parametrize("how", ["missing", "damaged", "of another content"])
async def test_a_content_that_is_not_what_it_was_is_named_and_the_rest_is_read(
    settings: Settings, how: str
) -> None:
    async with corral.open(settings) as c:
        run = (await c.run("Read.", reading())).run
        other = (await c.run("Hello.", corral.RunOptions(agent=scripted([turn("Hi.")])))).run
        digest = await blob_of(c, run)
        mine = blobs.c.digest == digest
        if how == "missing":
            await c.records.database.write(lambda k: k.execute(delete(blobs).where(mine)))
        else:
            another = select(blobs.c.data).where(~mine).limit(1).scalar_subquery()
            data = {"data": b"\x28\xb5\x2f\xfd torn" if how == "damaged" else another}
            await c.records.database.write(
                lambda k: k.execute(update(blobs).where(mine).values(data))
            )
        trace = await c.records.trace(run)
        broken = [effect for effect in trace if "damaged" in str(effect.result)[:12]]
        assert [effect.kind for effect in broken] == ["tool"]
        assert digest[:12] in str(broken[0].result)
        assert "Read." in str(trace[-1].result)
        with pytest.raises(StorageError, match=digest[:12]) as caught:
            await c.replay(run, reading())
        assert "backup" in caught.value.hint
        assert (await c.replay(other)).status == "identical"
        assert {view.run for view in await c.records.runs()} == {run, other}


@pytest.mark.parametrize("torn", ['{"text":"I re', "", "\x00\x00", '"a text"', "[" * 100_000])
async def test_a_torn_row_is_named_and_what_is_before_it_is_read(
    settings: Settings, torn: str
) -> None:
    short = corral.RunOptions(agent=scripted([turn("I read one.", report={"number": 1})], report))
    async with corral.open(settings) as c:
        failed = await c.run("Read.", short)
        assert failed.status == "failed"
        last = max(effect.seq for effect in await c.records.trace(failed.run))
        row = (effects.c.run_id == failed.run) & (effects.c.seq == last - 1)
        values = {"result": torn, "result_blob": None}
        await c.records.database.write(
            lambda k: k.execute(update(effects).where(row).values(values))
        )
        trace = await c.records.trace(failed.run)
        assert [effect.kind for effect in trace] == ["prepare", "model", "tool", "model"]
        assert "I read one." in str(trace[1].result)
        for work in (c.replay(failed.run, reading()), c.resume(failed.run, reading())):
            with pytest.raises(StorageError, match=f"Entry {last - 1} of run {failed.run}") as told:
                await work
            assert "corral trace" in told.value.hint
        assert (await c.records.gc()).runs == ()
        assert (await c.records.delete(failed.thread)).runs == (failed.run,)


async def test_a_log_that_is_cut_off_loses_no_more_than_was_cut_off(
    settings: Settings, tmp_path: Path
) -> None:
    path = settings.home / "corral.db"
    hello = corral.RunOptions(agent=scripted([turn("Hi.")]))
    async with corral.open(settings) as c:
        first = await c.run("One.", hello)
        await c.records.gc()  # what is there now is in the file itself
        for _ in range(3):
            await c.run("More.", hello)
        wal = path.with_name("corral.db-wal")
        whole, log = path.read_bytes(), wal.read_bytes()
    seen = []
    for part in (0, 1, 31, len(log) // 3, len(log) // 2, len(log) - 1, len(log)):
        home = tmp_path / f"cut-{part}"
        home.mkdir()
        (home / "corral.db").write_bytes(whole)
        (home / "corral.db-wal").write_bytes(log[:part])
        async with corral.open(settings.model_copy(update={"home": home})) as c:
            found = await c.records.runs()
            assert first.run in [view.run for view in found]
            assert (await c.replay(first.run)).status == "identical"
            assert (await c.run("On it goes.", hello)).status == "completed"
            seen.append(len(found))
        with closing(sqlite3.connect(home / "corral.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        shutil.rmtree(home)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (1, 4)
