"""Databases of every schema there has been: brought up to date, and what is in them goes on.

``data/revision_0001.sql`` was made by Corral 0.1.0 itself. Downgrading is not offered.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

import corral
from corral.errors import StorageError
from corral.policies.rules import Rule
from corral.runtime import migrate
from corral.runtime.config import Settings
from corral.runtime.database import sqlite_url
from corral.runtime.migrate import open_database
from corral.storage import metadata
from tests.runtime.agents import Turn, turn

FOLDER = Path(migrate.__file__).parent / "migrations"
FIRST = Path(__file__).parent / "data" / "revision_0001.sql"


class Past:
    """The tools that the stored runs were made with, and what they do now."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    def options(self, *turns: Turn) -> corral.RunOptions:
        """The agent that the runs were made by; a scripted model is asked by turn."""

        @corral.tool(read_only=True)
        def look(at: int) -> str:
            """Look at something."""
            return f"Seen {at}. " * (600 if at == 1 else 1)

        def pay(amount: int) -> str:
            """Pay an amount."""
            self.paid.append(amount)
            return f"paid {amount}"

        model = corral.ScriptedModel(turns)
        return corral.RunOptions(
            agent=corral.Agent(functions=(look, pay), servers=(), chat_model=model, facts=0)
        )


def first_database(path: Path, workspace: Path) -> None:
    """The database of revision 0001, as it was on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    script = FIRST.read_text().replace("{WORKSPACE}", str(workspace))
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def bring_to(url: str, revision: str) -> None:
    """Upgrade as far as ``revision`` and no further."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A database of each revision, with the rows of the first one brought up to it."""
    folder = tmp_path_factory.mktemp("revisions")
    made = {}
    for revision in migrate.KNOWN:
        made[revision] = folder / revision / "corral.db"
        first_database(made[revision], Path("{WORKSPACE}"))
        bring_to(sqlite_url(made[revision]), revision)
    return made


FIRST_AND_LAST = (migrate.KNOWN[0], migrate.KNOWN[-2])
"""The oldest revision and the newest that is not today's: what an everyday run tries."""


@pytest.fixture(
    params=[
        pytest.param(revision, marks=() if revision in FIRST_AND_LAST else pytest.mark.slow)
        for revision in migrate.KNOWN
    ]
)
def older(
    request: pytest.FixtureRequest, databases: dict[str, Path], settings: Settings
) -> Iterator[Settings]:
    """Settings whose database is one of an older Corral."""
    path = settings.home / "corral.db"
    shutil.copy(databases[request.param], path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE threads SET workspace = ?", [str(settings.workspace)])
    yield settings
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        assert found == (migrate.HEAD,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def go_on_with_the_past(settings: Settings) -> None:
    """Read, replay and resume every run of the first database."""
    # Nobody knows any more what those runs had read, so that even a look can tell somebody of it.
    looking = Rule(tool="functions__look", action="allow")
    settings = settings.model_copy(update={"rules": (*settings.rules, looking)})
    past = Past()
    talk = past.options(turn("Let me look.", look={"at": 1}), turn("All is well."))
    paying = past.options(turn("Paying.", pay={"amount": 7}), turn("Paid seven."))
    both = past.options(
        turn("Paying.", pay={"amount": 5}), turn("Looking.", look={"at": 2}), turn("Paid and seen.")
    )
    async with corral.open(settings) as c:
        cut_off, paused, second, first = await c.records.runs()
        assert [view.status for view in (first, second, paused, cut_off)] == [
            "completed",
            "completed",
            "paused",
            "running",
        ]
        trace = await c.records.trace(first.run)
        assert [effect.kind for effect in trace] == ["prepare", "model", "tool", "model"]
        assert str(trace[2].result).count("Seen 1.") == 600
        for view, options in ((first, talk), (second, past.options(turn("Still well.")))):
            report = await c.replay(view.run, options)
            assert report.status == "identical", report.divergence
        assert past.paid == []

        (question,) = await c.approvals()
        await c.approve(question.id)
        resumed = await c.resume(paused.run, paying)
        assert (resumed.status, resumed.output) == ("completed", "Paid seven.")
        ended = await c.resume(cut_off.run, both)
        assert (ended.status, ended.output) == ("completed", "Paid and seen.")
        assert past.paid == [7], "what had been paid before the crash is not paid again"
        for view, options in ((paused, paying), (cut_off, both)):
            assert (await c.replay(view.run, options)).status == "identical"

        (fact,) = await c.memory.all()
        assert (fact.text, fact.run) == ("The user drinks tea.", first.run)
        deleted = await c.records.delete(first.thread)
        assert (len(deleted.runs), deleted.memories) == (2, 1)


async def test_what_is_in_an_older_database_goes_on(older: Settings) -> None:
    await go_on_with_the_past(older)


async def test_an_older_database_is_brought_up_to_date_once_by_many(
    tmp_path: Path,
) -> None:
    path = tmp_path / "corral.db"
    first_database(path, tmp_path)
    opened = await asyncio.gather(*(open_database(sqlite_url(path)) for _ in range(4)))
    for database in opened:
        await database.aclose()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [(migrate.HEAD,)]
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (4,)


async def test_the_migrations_build_exactly_the_tables_of_the_code(tmp_path: Path) -> None:
    database = await open_database(sqlite_url(tmp_path / "a.db"))

    def work(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert await database.read(work) == []
    await database.aclose()
    scripts = ScriptDirectory(str(FOLDER))
    assert scripts.get_current_head() == migrate.HEAD
    assert [s.revision for s in reversed(list(scripts.walk_revisions()))] == list(migrate.KNOWN)


async def test_a_database_of_a_newer_corral_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await (await open_database(sqlite_url(path))).aclose()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StorageError, match="9999") as caught:
        await open_database(sqlite_url(path))
    assert "newer" in caught.value.hint
