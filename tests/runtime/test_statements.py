"""Statements that are compiled once, and how the database makes small ones at once."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    insert,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, NoResultFound

from corral.errors import StorageError
from corral.runtime.database import Database, sqlite_url
from corral.runtime.statements import Query, Statement

METADATA = MetaData()
WORDS = Table(
    "words", METADATA, Column("number", Integer, primary_key=True), Column("word", String)
)
INSERT = Statement(insert(WORDS))
RENAME = Statement(update(WORDS).where(WORDS.c.number == bindparam("which")), columns=["word"])
ALL = Query(select(WORDS).order_by(WORDS.c.number))
NAMED = Query(select(WORDS.c.word).where(WORDS.c.number == bindparam("which")))
FIRST_TWO = Query(select(WORDS.c.word).where(WORDS.c.number < 2).order_by(WORDS.c.number))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(sqlite_url(tmp_path / "a.db"))
    await opened.write(METADATA.create_all)
    yield opened
    await opened.aclose()


def put(number: int, word: str = "") -> Any:
    return lambda connection: INSERT.run(connection, {"number": number, "word": word})


def committed(path: Path) -> int:
    """How many rows another connection sees."""
    with sqlite3.connect(path / "a.db") as other:
        return int(other.execute("SELECT count(*) FROM words").fetchone()[0])


async def test_rows_have_the_names_of_their_columns(database: Database) -> None:
    for number, word in enumerate(("a", "b", "c")):
        await database.write(put(number, word))

    def look(connection: Connection) -> None:
        assert [(row.number, row.word) for row in ALL.all(connection, {})] == [
            (0, "a"),
            (1, "b"),
            (2, "c"),
        ]
        found = NAMED.first(connection, {"which": 1})
        assert found is not None
        assert (found.word, NAMED.one(connection, {"which": 2}).word) == ("b", "c")
        assert [row.word for row in FIRST_TWO.all(connection, {})] == ["a", "b"]  # its own value

    await database.read(look)
    await database.write(look)  # compiled once, for connections of either kind


async def test_a_row_that_is_not_there(database: Database) -> None:
    def look(connection: Connection) -> None:
        assert NAMED.first(connection, {"which": 7}) is None
        assert NAMED.all(connection, {"which": 7}) == []
        with pytest.raises(NoResultFound):
            NAMED.one(connection, {"which": 7})

    await database.read(look)


async def test_columns_are_set_by_parameters_of_their_names(database: Database) -> None:
    await database.write(put(1, "a"))
    done = await database.write(lambda c: RENAME.run(c, {"word": "b", "which": 1}).rowcount)
    assert done == 1
    assert await database.read(lambda c: NAMED.one(c, {"which": 1}).word) == "b"


async def test_errors_are_those_of_sqlalchemy(database: Database) -> None:
    def work(connection: Connection) -> None:
        put(1)(connection)
        with pytest.raises(IntegrityError):
            put(1)(connection)
        with pytest.raises(DBAPIError):
            INSERT.run(connection, {"number": 2, "word": object()})

    await database.write(work)


async def test_a_glance_is_made_here_or_left_to_a_reader(database: Database) -> None:
    here = threading.get_ident()
    await database.write(put(1, "a"))
    assert await database.glance(lambda _: threading.get_ident()) == here
    held = threading.Event()
    writing = database.submit(lambda c: (held.wait(), put(2, "b")(c)), durable=True)
    assert await database.glance(lambda _: threading.get_ident()) != here
    seen = await database.glance(lambda c: [row.word for row in ALL.all(c, {})])
    held.set()
    await asyncio.wrap_future(writing)
    assert seen == ["a"]
    assert await database.glance(lambda c: [row.word for row in ALL.all(c, {})]) == ["a", "b"]


async def test_a_glance_waits_for_no_other_process(database: Database, tmp_path: Path) -> None:
    await database.write(put(1, "a"))
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO words VALUES (2, 'b')")
    assert await database.glance(lambda c: len(ALL.all(c, {}))) == 1
    other.execute("COMMIT")
    other.close()
    assert await database.glance(lambda c: len(ALL.all(c, {}))) == 2


async def test_a_glance_that_fails_says_so_and_is_over(database: Database) -> None:
    broken = Statement(select(Table("nowhere", MetaData(), Column("a"))))
    with pytest.raises(StorageError, match="nowhere"):
        await database.glance(lambda c: broken.run(c, {}))
    with pytest.raises(ZeroDivisionError):
        await database.glance(lambda _: 1 // 0)
    await database.appended(put(1))  # no transaction was left open
    await database.aclose()
    with pytest.raises(StorageError, match="closed"):
        await database.glance(lambda c: ALL.all(c, {}))


async def test_what_queues_up_is_committed_together(database: Database, tmp_path: Path) -> None:
    begun, held = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        begun.set()
        held.wait()
        put(0)(connection)

    first = database.submit(hold, durable=True)
    await asyncio.to_thread(begun.wait)
    seen: list[int] = []

    def work(number: int) -> Any:
        def insert_one(connection: Connection) -> None:
            seen.append(committed(tmp_path))
            put(number)(connection)

        return insert_one

    rest = [database.submit(work(number), durable=number % 2 == 0) for number in range(1, 11)]
    held.set()
    await asyncio.gather(*map(asyncio.wrap_future, [first, *rest]))
    assert seen == [1] * 10  # the first alone, until all the others are there
    assert committed(tmp_path) == 11


async def test_appended_gives_what_the_work_gives(database: Database, tmp_path: Path) -> None:
    here = threading.get_ident()
    assert await database.appended(lambda c: (put(1)(c), threading.get_ident())[1]) == here
    held = threading.Event()
    writing = database.submit(lambda _: held.wait(), durable=True)
    later = asyncio.ensure_future(database.appended(lambda c: (put(2)(c), "later")[1]))
    await asyncio.sleep(0)
    assert not later.done()  # what was queued before is first
    held.set()
    await asyncio.wrap_future(writing)
    assert await later == "later"
    with pytest.raises(StorageError, match="UNIQUE"):
        await database.appended(put(1))
    assert committed(tmp_path) == 2
