"""The whole of it on a real PostgreSQL server: what is tested elsewhere on SQLite holds there."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, insert, inspect, select, text, update

import corral
from corral.errors import ConflictError, StorageError
from corral.memory.store import Source
from corral.runtime.clock import ago
from corral.runtime.config import Settings
from corral.runtime.migrate import open_database
from corral.runtime.tables import blobs, checkpoints, effects, runs
from corral.storage import metadata
from tests.runtime.agents import Ledger, scripted, turn
from tests.runtime.postgres_server import Server, running
from tests.runtime.rivals_child import looking
from tests.runtime.test_migrations import bring_to, first_database, go_on_with_the_past

pytest.importorskip("psycopg", reason="psycopg is not installed: run `make setup`")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        yield started


@pytest.fixture
def on_postgres(server: Server, settings: Settings) -> Settings:
    """Settings with a new database on the server."""
    return settings.model_copy(update={"database_url": server.new_database()})


@corral.tool(read_only=True)
def report(number: int) -> str:
    """A long text."""
    return "".join(f"{n * number} " for n in range(9000))


def paying(ledger: Ledger) -> corral.RunOptions:
    turns = [turn("Paying.", pay={"amount": 5}), turn("Paid.")]
    return corral.RunOptions(agent=scripted(turns, *ledger.tools()))


async def test_a_run_is_approved_resumed_replayed_and_forked(on_postgres: Settings) -> None:
    ledger = Ledger()
    async with corral.open(on_postgres) as c:
        paused = await c.run("Pay.", paying(ledger))
        assert paused.status == "paused"
        await c.approve(paused.approvals[0].id, always=True)
        with pytest.raises(ConflictError):
            await c.approve(paused.approvals[0].id)
    async with corral.open(on_postgres) as c:
        done = await c.resume(paused.run, paying(ledger))
        assert (done.status, done.output, ledger.paid) == ("completed", "Paid.", [5])
        again = await c.run("Pay.", paying(ledger))
        assert (again.status, ledger.paid) == ("completed", [5, 5]), "the rule stands"
        for run in (done.run, again.run):
            assert (await c.replay(run, paying(ledger))).status == "identical"
        last = [e.seq for e in await c.records.trace(done.run) if e.kind == "model"][-1]
        fork = await c.fork(done.run, corral.Fork(at=last), paying(ledger))
        assert (fork.status, ledger.paid) == ("completed", [5, 5])
        assert (await c.replay(fork.run, paying(ledger))).status == "identical"
        assert len(await c.records.trace(fork.run)) == len(await c.records.trace(done.run))
        assert {view.run for view in await c.records.runs()} == {done.run, again.run, fork.run}


async def test_any_text_is_kept_as_it_is(on_postgres: Settings) -> None:
    strange = "nul \0 private \ue000 \ue0000 quote ' \\ %s \U0001f980"
    agent = scripted([turn(strange, echo={"text": strange}), turn(strange)], corral.tool()(echo))
    policy = on_postgres.workspace / "policy.toml"
    policy.write_text('[[rules]]\ntool = "*"\naction = "allow"\n')
    options = corral.RunOptions(agent=agent, policy=str(policy))
    async with corral.open(on_postgres) as c:
        done = await c.run(strange, options)
        assert (done.status, done.output) == ("completed", strange)
        view = await c.records.run(done.run)
        assert (view.prompt, view.output) == (strange, strange)
        (call,) = [e for e in await c.records.trace(done.run) if e.kind == "tool"]
        assert "\U0001f980" in str(call.result)
        replayed = await c.replay(done.run, options)
        assert replayed.status == "identical", replayed.divergence


def echo(text: str) -> str:
    """Say it again."""
    return text


async def test_facts_are_remembered_once_and_forgotten(on_postgres: Settings) -> None:
    async with corral.open(on_postgres) as c:
        call = {"name": "memory__remember", "args": {"fact": "The user drinks tea."}}

        async def tell() -> corral.RunResult:
            model = corral.ScriptedModel([{"tool_calls": [call]}, turn("Noted.")])
            agent = corral.Agent(servers=("memory",), chat_model=model)
            options = corral.RunOptions(agent=agent, approver=approve)
            return await c.run("Note it.", options)

        async def approve(_asked: corral.Approval) -> corral.Approved:
            return corral.Approved()

        told = await asyncio.gather(*(tell() for _ in range(4)))
        assert {result.status for result in told} == {"completed"}
        (fact,) = await c.memory.all()
        assert (await c.memory.recall("tea"))[0].id == fact.id
        kept = [result for result in told if result.run != fact.run]
        await c.records.delete(fact.thread)
        assert [one.run in {r.run for r in kept} for one in await c.memory.all()] == [True]


async def test_of_rivals_for_one_run_one_wins(on_postgres: Settings) -> None:
    options = corral.RunOptions(agent=looking(12), limits=corral.RunLimits(max_steps=100))
    short = corral.RunOptions(agent=looking(12), limits=corral.RunLimits(max_steps=2))
    async with corral.open(on_postgres) as one, corral.open(on_postgres) as other:
        stopped = await one.run("Look.", short)
        said = await asyncio.gather(
            *(c.resume(stopped.run, options) for c in (one, other, one, other)),
            return_exceptions=True,
        )
        won = [result for result in said if isinstance(result, corral.RunResult)]
        lost = [result for result in said if isinstance(result, ConflictError)]
        assert (len(won), len(lost)) == (1, 3), said
        assert won[0].status == "completed"
        kinds = [effect.kind for effect in await one.records.trace(stopped.run)]
        assert (kinds.count("tool"), kinds.count("model")) == (12, 13)
        assert (await one.replay(stopped.run, options)).status == "identical"
        busy = corral.RunOptions(agent=looking(3), thread=stopped.thread)
        started = await asyncio.gather(
            *(c.run("Look.", busy) for c in (one, other)), return_exceptions=True
        )
        assert any(isinstance(result, corral.RunResult) for result in started), started
        assert all(isinstance(result, ConflictError | corral.RunResult) for result in started), (
            started
        )


async def test_old_runs_go_and_threads_are_deleted(on_postgres: Settings) -> None:
    agent = scripted([turn("I read.", report={"number": 3}), turn("Read.")], report)
    options = corral.RunOptions(agent=agent)
    async with corral.open(on_postgres) as c:
        kept, old = await c.run("Read.", options), await c.run("Read again.", options)
        then = {"started_at": ago(timedelta(days=90)), "finished_at": ago(timedelta(days=90))}
        await c.records.database.write(
            lambda k: k.execute(update(runs).where(runs.c.id == old.run).values(then))
        )
        month = corral.Retention(older_than=timedelta(days=30))
        would = await c.records.gc(month, dry_run=True)
        found = await c.records.gc(month)
        assert (
            (found.runs, found.threads)
            == ((old.run,), (old.thread,))
            == (
                would.runs,
                would.threads,
            )
        )
        assert (found.contents, found.checkpoints) == (would.contents, would.checkpoints)
        assert found.bytes_before > 0
        assert (await c.replay(kept.run, options)).status == "identical"
        await c.records.delete(kept.thread)
        left = [select(func.count()).select_from(t) for t in (runs, effects, blobs, checkpoints)]
        counts = await c.records.database.read(lambda k: [k.execute(q).scalar() for q in left])
        assert counts == [0] * 4


async def test_a_database_of_the_first_revision_goes_on(
    server: Server, settings: Settings, tmp_path: Path
) -> None:
    url = server.new_database()
    bring_to(url, "0001")
    _copy_first_rows(url, tmp_path / "first.db", settings.workspace)
    await go_on_with_the_past(settings.model_copy(update={"database_url": url}))


def _copy_first_rows(url: str, path: Path, workspace: Path) -> None:
    """Fill a PostgreSQL database of revision 0001 with what was stored in a SQLite one."""
    first_database(path, workspace)
    engine = create_engine(url)
    with closing(sqlite3.connect(path)) as source, engine.begin() as target:
        source.row_factory = sqlite3.Row
        there = inspect(target).get_table_names()
        for table in (t for t in metadata.sorted_tables if t.name in there):
            rows = [dict(row) for row in source.execute(f"SELECT * FROM {table.name}")]
            if rows:
                target.execute(insert(table), rows)
    engine.dispose()


async def test_the_tables_are_those_of_the_code(on_postgres: Settings) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = await open_database(on_postgres.database)
    found = await database.read(
        lambda k: list(compare_metadata(MigrationContext.configure(k), metadata))
    )
    await database.aclose()
    assert found == []


async def test_a_writer_that_waits_too_long_says_so(
    on_postgres: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await open_database(on_postgres.database)
    monkeypatch.setattr("corral.runtime.database.BUSY_SECONDS", 0.2)
    engine = create_engine(on_postgres.database)
    with engine.begin() as holder:
        holder.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": 0x636F7272616C})
        with pytest.raises(StorageError, match="locked") as caught:
            await database.write(lambda k: k.execute(text("SELECT 1")))
        assert "nothing was lost" in caught.value.hint
    await database.write(lambda k: k.execute(text("SELECT 1")))
    await database.aclose()
    engine.dispose()


async def test_a_server_that_stops_ends_the_run_and_it_goes_on_later(
    server: Server, on_postgres: Settings
) -> None:
    looks = corral.RunLimits(max_steps=20)

    @corral.tool(read_only=True)
    def look(at: int) -> int:
        """Look, and stop the server at the third."""
        if at == 2 and not stopped:
            stopped.append(at)
            server.control("stop", "-m", "immediate")
        return at

    stopped: list[int] = []
    turns = [turn(f"Look {n}.", look={"at": n}) for n in range(4)]
    options = corral.RunOptions(agent=scripted([*turns, turn("Seen.")], look), limits=looks)
    try:
        async with corral.open(on_postgres) as c:
            with pytest.raises(StorageError, match="cannot be reached"):
                await c.run("Look.", options)
    finally:
        server.control("start")
    async with corral.open(on_postgres) as c:
        (cut_off,) = await c.records.runs()
        assert cut_off.status == "running", "its end could not be stored"
        done = await c.resume(cut_off.run, options)
        assert (done.status, done.output) == ("completed", "Seen.")
        assert (await c.replay(cut_off.run, options)).status == "identical"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg://corral@/nowhere?host={folder}", "no database nowhere"),
        ("postgresql+psycopg://corral@127.0.0.1:1/x", "cannot be reached"),
        ("postgresql+psycopg://corral@/x?host=/nonexistent", "cannot be reached"),
    ],
)
async def test_a_server_that_cannot_be_used_is_named(server: Server, url: str, said: str) -> None:
    with pytest.raises(StorageError, match=said) as caught:
        await open_database(url.format(folder=server.folder))
    assert "CORRAL_DATABASE_URL" in caught.value.hint


async def test_a_thread_is_rewound_and_brought_forward(on_postgres: Settings) -> None:
    note = on_postgres.workspace / "note.txt"

    def change(text: str) -> str:
        """Write a note."""
        note.write_text(text)
        return "written"

    def writing(text: str) -> corral.Agent:
        return scripted([turn("", change={"text": text}), turn("done")], change)

    async def approver(_approval: corral.Approval) -> corral.Approved:
        return corral.Approved()

    async with corral.open(on_postgres) as c:
        thread = None
        for text_ in ("one", "two"):
            options = corral.RunOptions(agent=writing(text_), thread=thread, approver=approver)
            result = await c.run("Write.", options)
            thread = result.thread
            source = Source("assistant", thread, result.run)
            await c.memory.remember(f"It says {text_}.", source, text_)
        report = await c.rewind(result.thread, 1)
        assert [(file.path, file.change) for file in report.files] == [("note.txt", "changed")]
        assert note.read_text() == "one"
        assert [fact.text for fact in await c.memory.all()] == ["It says one."]
        await c.undo_rewind(result.thread)
        assert note.read_text() == "two"
        assert len(await c.memory.all()) == 2
