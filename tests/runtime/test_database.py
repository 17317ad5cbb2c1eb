"""The database: durable, shared, and clear about what is wrong with it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

import corral
from corral.errors import ConfigError, StorageError
from corral.runtime.config import Settings
from corral.runtime.database import sqlite_url
from corral.runtime.migrate import open_database
from tests.runtime.agents import scripted, turn


async def test_a_failing_write_does_not_undo_the_others_of_its_batch(tmp_path: Path) -> None:
    database = await open_database(sqlite_url(tmp_path / "a.db"))
    await database.write(lambda c: c.execute(text("CREATE TABLE t (n INTEGER)")))

    def insert(n: int, *, fail: bool = False) -> Awaitable[None]:
        def work(connection: Connection) -> None:
            connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": n})
            if fail:
                raise StorageError("on purpose")

        return database.write(work)

    results = await asyncio.gather(
        *(insert(n, fail=n % 5 == 0) for n in range(50)),
        return_exceptions=True,
    )
    assert sum(isinstance(r, StorageError) for r in results) == 10
    rows = await database.read(lambda c: c.execute(text("SELECT n FROM t")).scalars().all())
    assert sorted(rows) == [n for n in range(50) if n % 5]
    await database.aclose()


async def test_writes_are_readable_by_another_process_once_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = await open_database(sqlite_url(path))
    await database.write(lambda c: c.execute(text("CREATE TABLE t (n INTEGER)")))
    for n in range(20):
        row = text("INSERT INTO t VALUES (:n)").bindparams(n=n)
        await database.write(partial(Connection.execute, statement=row), durable=n % 2 == 0)
        with sqlite3.connect(path) as other:
            assert other.execute("SELECT max(n) FROM t").fetchone() == (n,)
    await database.aclose()


async def test_a_locked_database_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.runtime.database.BUSY_SECONDS", 0.2)
    path = tmp_path / "a.db"
    await (await open_database(sqlite_url(path))).aclose()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    database = await open_database(sqlite_url(path))
    with pytest.raises(StorageError, match="locked") as caught:
        await database.write(lambda c: c.execute(text("CREATE TABLE t (n INTEGER)")))
    assert "nothing was lost" in caught.value.hint
    holder.execute("ROLLBACK")
    await database.write(lambda c: c.execute(text("CREATE TABLE t (n INTEGER)")))
    await database.aclose()
    holder.close()


@pytest.mark.parametrize(
    "content", [b"this is no database at all, just a text. " * 40, b"\x00" * 512]
)
async def test_a_file_that_is_no_database_is_refused_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"a\.db") as caught:
        await open_database(sqlite_url(path))
    assert "backup" in caught.value.hint
    assert path.read_bytes() == content


async def test_a_bad_url_is_named() -> None:
    with pytest.raises(ConfigError, match="URL"):
        await open_database("nonsense://x")


async def test_a_full_disk_ends_the_run_clearly_and_what_was_stored_stays(
    settings: Settings,
) -> None:
    @corral.tool(read_only=True)
    def big() -> str:
        """More than fits."""
        return "x" * 30_000

    agent = scripted([*(turn(f"{n}", big={}) for n in range(3)), turn("Done.")], big)
    async with corral.open(settings) as c:
        small = await c.run("Go.", corral.RunOptions(agent=scripted([turn("Fine.")])))

        # SQLite's own limit gives the error of a full disk, at a page that we choose.
        def fill(connection: Connection) -> None:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count={int(str(pages)) + 6}")

        await c.records.database.write(fill)
        failed = await c.run("Go.", corral.RunOptions(agent=agent))
        assert failed.status == "failed"
        assert "no space left" in str(failed.error)
        assert "Free some disk space" in str(failed.error)
        await c.records.database.write(
            lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=1000000")
        )
    async with corral.open(settings) as c:
        newest, oldest = await c.records.runs()
        assert (oldest.run, oldest.output) == (small.run, "Fine.")
        assert newest.run == failed.run
        done = await c.resume(newest.run, corral.RunOptions(agent=agent))
        assert (done.status, done.output) == ("completed", "Done.")


async def test_new_databases_can_be_opened_at_the_same_time(tmp_path: Path) -> None:
    urls = [sqlite_url(tmp_path / f"{n}.db") for n in range(4)] + [sqlite_url(tmp_path / "0.db")]
    for database in await asyncio.gather(*map(open_database, urls)):
        await database.aclose()


async def test_a_new_database_is_its_owners_alone(tmp_path: Path) -> None:
    await (await open_database(sqlite_url(tmp_path / "home" / "a.db"))).aclose()
    assert (tmp_path / "home" / "a.db").stat().st_mode & 0o077 == 0
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0
