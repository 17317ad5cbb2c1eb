"""What gc takes, what it leaves, and that everything that is left works as before."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import START, StateGraph
from sqlalchemy import func, insert, select, update

import corral
from corral.agents.reducer import add_messages
from corral.errors import NotFoundError, UsageError
from corral.runtime.checkpoints import DatabaseSaver
from corral.runtime.clock import ago
from corral.runtime.config import Settings
from corral.runtime.housekeeping.retention import parse_age
from corral.runtime.models.local.states.held import Held
from corral.runtime.models.local.states.removal import states_folder, taken
from corral.runtime.models.local.states.store import StateOptions, StateStore
from corral.runtime.tables import blobs, checkpoint_writes, checkpoints, effects, runs
from tests.runtime.agents import Ledger, Listening, Turn, scripted, turn
from tests.runtime.gc_child import ROUNDS, busy, settings_in
from tests.runtime.test_rivals import compete

MONTH = corral.Retention(older_than=timedelta(days=30))
HELLO = corral.RunOptions(agent=scripted([turn("Hello.")]))


@corral.tool(read_only=True)
def report(number: int) -> str:
    """A long text that is the same for the same number."""
    return f"{number} " + "".join(f"line {n * number * 7919}\n" for n in range(7000))


def reading(*numbers: int) -> corral.RunOptions:
    """An agent that reads a long report for each number."""
    turns: Sequence[Turn] = [turn(f"I read {n}.", report={"number": n}) for n in numbers]
    return corral.RunOptions(agent=scripted([*turns, turn("Read.")], report))


async def age(c: corral.Corral, run: str, days: int) -> None:
    """Make a run one that began and ended so long ago."""
    then = ago(timedelta(days=days))
    values = {"started_at": then, "finished_at": then}
    await c.records.database.write(
        lambda k: k.execute(update(runs).where(runs.c.id == run).values(values))
    )


async def count(c: corral.Corral, table: Any) -> int:
    query = select(func.count()).select_from(table)
    return int(await c.records.database.read(lambda k: k.execute(query).scalar_one()))


async def talk(c: corral.Corral, days: Sequence[int]) -> list[str]:
    """One thread with a run so many days ago each, oldest first."""
    options, made = HELLO, []
    for ago_ in days:
        result = await c.run(f"I say {ago_}.", options)
        assert result.status == "completed", result.error
        options = dataclasses.replace(options, thread=result.thread)
        await age(c, result.run, ago_)
        made.append(result.run)
    return made


async def ids(c: corral.Corral) -> set[str]:
    return {view.run for view in await c.records.runs(limit=1000)}


async def test_old_runs_go_and_their_conversation_goes_on(settings: Settings) -> None:
    async with corral.open(settings) as c:
        old, older, new = await talk(c, [60, 50, 1])
        thread = (await c.records.run(new)).thread
        found = await c.records.gc(MONTH)
        assert (set(found.runs), found.threads) == ({old, older}, ())
        assert await ids(c) == {new}
        assert (await c.replay(new)).status == "identical"
        model = Listening([turn("Now.")])
        agent = corral.Agent(servers=(), chat_model=model)
        again = await c.run("And now?", corral.RunOptions(agent=agent, thread=thread))
        assert again.status == "completed"
        assert all(f"I say {days}." in model.heard[0] for days in (60, 50, 1))
        with pytest.raises(NotFoundError):
            await c.records.trace(old)


async def test_the_newest_of_each_thread_are_kept(settings: Settings) -> None:
    async with corral.open(settings) as c:
        one, other = await talk(c, [9, 8, 7, 6]), await talk(c, [5, 4])
        both = corral.Retention(keep=3, older_than=timedelta(days=30))
        assert (await c.records.gc(both)).runs == ()
        assert set((await c.records.gc(corral.Retention(keep=2))).runs) == set(one[:2])
        assert await ids(c) == {*one[2:], *other}
        limited = corral.Retention(keep=1, threads=((await c.records.run(other[0])).thread,))
        assert (await c.records.gc(limited)).runs == (other[0],)
        assert await ids(c) == {*one[2:], other[1]}


async def test_a_thread_that_has_no_run_left_goes_as_a_whole(settings: Settings) -> None:
    async with corral.open(settings) as c:
        await talk(c, [90, 80])
        kept = await talk(c, [3])
        found = await c.records.gc(MONTH)
        assert (len(found.runs), len(found.threads)) == (2, 1)
        assert [view.thread for view in await c.records.threads()] == [
            (await c.records.run(kept[0])).thread
        ]
        threads = select(checkpoints.c.thread_id).distinct()
        assert len(await c.records.database.read(lambda k: k.execute(threads).all())) == 1


async def test_one_thread_that_is_named_goes_as_a_whole(settings: Settings) -> None:
    async with corral.open(settings) as c:
        old, kept = await talk(c, [90, 80]), await talk(c, [70])
        thread = (await c.records.run(old[0])).thread
        only = dataclasses.replace(MONTH, threads=(thread,))
        would = await c.records.gc(only, dry_run=True)
        found = await c.records.gc(only)
        assert (set(found.runs), found.threads) == (set(old), (thread,))
        assert (found.runs, found.threads) == (would.runs, would.threads)
        assert await ids(c) == set(kept)
        with pytest.raises(NotFoundError):
            await c.records.gc(only)


async def test_without_a_limit_no_run_goes(settings: Settings) -> None:
    async with corral.open(settings) as c:
        made = await talk(c, [900, 800])
        assert (await c.records.gc()).runs == ()
        assert await ids(c) == set(made)


async def test_pinned_and_unfinished_runs_stay(settings: Settings) -> None:
    ledger = Ledger()
    paying = corral.RunOptions(
        agent=scripted([turn("Paying.", pay={"amount": 5}), turn("Paid.")], *ledger.tools())
    )
    async with corral.open(settings) as c:
        pinned, *_ = await talk(c, [90])
        assert (await c.records.pin(pinned)).pinned
        paused = await c.run("Pay.", paying)
        cut_off = await c.run("Hello?", HELLO)
        for run in (paused.run, cut_off.run):
            await age(c, run, 90)
        await c.records.database.write(
            lambda k: k.execute(
                update(runs).where(runs.c.id == cut_off.run).values(status="running")
            )
        )
        found = await c.records.gc(MONTH)
        assert found.runs == ()
        assert (found.kept.pinned, found.kept.unfinished) == (1, 2)
        assert (await c.replay(pinned)).status == "identical"
        await c.approve(paused.approvals[0].id)
        assert (await c.resume(paused.run, paying)).output == "Paid."
        assert ledger.paid == [5]

        await age(c, paused.run, 90)
        assert not (await c.records.pin(pinned, pinned=False)).pinned
        assert set((await c.records.gc(MONTH)).runs) == {pinned, paused.run}


async def test_what_a_fork_shares_stays_as_long_as_the_fork(settings: Settings) -> None:
    async with corral.open(settings) as c:
        parent = await c.run("Read.", reading(1, 2))
        model = [e.seq for e in await c.records.trace(parent.run) if e.kind == "model"][-1]
        fork = await c.fork(parent.run, corral.Fork(at=model), reading(1, 2))
        assert fork.status == "completed", fork.error
        await age(c, parent.run, 90)
        found = await c.records.gc(MONTH)
        assert (found.runs, found.kept.forked) == ((), 1)
        assert (await c.replay(fork.run, reading(1, 2))).status == "identical"
        await age(c, fork.run, 60)
        assert set((await c.records.gc(MONTH)).runs) == {parent.run, fork.run}
        assert await count(c, blobs) == 0


async def test_a_dry_run_says_it_and_changes_nothing(settings: Settings) -> None:
    async with corral.open(settings) as c:
        kept = await c.run("Read.", reading(3))
        for number in (1, 2, 3):
            old = await c.run("Read.", reading(number))
            await age(c, old.run, 90)
        tables = (runs, effects, blobs, checkpoints, checkpoint_writes)
        before = [await count(c, table) for table in tables]
        would = await c.records.gc(MONTH, dry_run=True)
        assert [await count(c, table) for table in tables] == before
        done = await c.records.gc(MONTH)
        assert (would.dry_run, done.dry_run) == (True, False)
        for name in ("runs", "threads", "checkpoints", "contents", "orphans"):
            assert getattr(would, name) == getattr(done, name), name
        assert len(done.runs) == 3
        assert await count(c, blobs) == before[2] - done.contents > 0, "one is used once more"
        assert would.bytes_after < would.bytes_before
        assert (await c.replay(kept.run, reading(3))).status == "identical"


async def test_the_same_long_result_is_stored_once(settings: Settings) -> None:
    async with corral.open(settings) as c:
        first = await c.run("Read.", reading(7, 7))
        second = await c.run("Read.", reading(7))
        query = select(effects.c.result_blob).where(effects.c.kind == "tool").distinct()
        found = await c.records.database.read(lambda k: k.execute(query).all())
        assert len(found) == 1
        texts = {
            str(e.result["text"])[:5000]
            for run in (first.run, second.run)
            for e in await c.records.trace(run)
            if e.kind == "tool" and isinstance(e.result, dict)
        }
        assert texts == {report(7)[:5000]}


async def test_the_room_is_given_back(settings: Settings) -> None:
    path = settings.home / "corral.db"
    async with corral.open(settings) as c:
        kept = await c.run("Read.", reading(1))
        for number in range(2, 12):
            run = (await c.run("Read.", reading(number))).run
            await age(c, run, 90)
        found = await c.records.gc(MONTH)
        wal = path.with_name("corral.db-wal")
        assert found.note is None
        assert wal.stat().st_size == 0
        assert found.bytes_after == path.stat().st_size < found.bytes_before / 2
        assert (await c.replay(kept.run, reading(1))).status == "identical"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_database_of_before_is_made_smaller_as_well(settings: Settings) -> None:
    path = settings.home / "corral.db"
    async with corral.open(settings) as c:
        old = await c.run("Read.", reading(1, 2, 3))
        await age(c, old.run, 90)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum=NONE")
        connection.execute("VACUUM")
    async with corral.open(settings) as c:
        found = await c.records.gc(MONTH)
    assert found.bytes_after < found.bytes_before
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


async def test_a_reader_holds_the_log_and_gc_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.runtime.housekeeping.disk.PATIENCE_MS", 50)
    path = settings.home / "corral.db"
    async with corral.open(settings) as c:
        old = await c.run("Read.", reading(1))
        await age(c, old.run, 90)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            before = reader.execute("SELECT count(*) FROM effects").fetchone()
            busy = await c.records.gc(MONTH)
            assert busy.runs == (old.run,)
            assert "corral gc" in str(busy.note)
            assert reader.execute("SELECT count(*) FROM effects").fetchone() == before
        assert (await c.records.gc()).note is None


async def test_what_a_crash_left_behind_is_swept_and_what_is_new_is_not(
    settings: Settings,
) -> None:
    old, new = "1eb00000-0000-6000-8000-000000000000", "ffffffff-ffff-6fff-8000-000000000000"
    async with corral.open(settings) as c:
        (run,) = await talk(c, [1])
        thread = (await c.records.run(run)).thread
        before = await count(c, checkpoints), await count(c, checkpoint_writes)
        row = {"ns": "", "type": "msgpack", "data": b"x"}
        points = [
            {**row, "thread_id": "t-gone", "id": point, "metadata": "{}"} for point in (old, new)
        ]
        writes = [
            {
                **row,
                "thread_id": at,
                "checkpoint_id": point,
                "task_id": "t",
                "idx": 0,
                "task_path": "",
                "channel": "c",
            }
            for at, point in (("t-gone", old), ("t-gone", new), (thread, old))
        ]
        await c.records.database.write(lambda k: k.execute(insert(checkpoints), points))
        await c.records.database.write(lambda k: k.execute(insert(checkpoint_writes), writes))
        assert (await c.records.gc(dry_run=True)).orphans == 3
        assert (await c.records.gc()).orphans == 3
        after = await count(c, checkpoints), await count(c, checkpoint_writes)
        assert (after[0] - before[0], after[1] - before[1]) == (1, 1)


async def test_a_content_that_is_stored_meanwhile_is_not_swept(settings: Settings) -> None:
    async with corral.open(settings) as c, corral.open(settings) as other:
        for round_ in range(4):
            old = await c.run("Read.", reading(round_))
            await age(c, old.run, 90)
            collecting = asyncio.create_task(other.records.gc(MONTH))
            made = await asyncio.gather(*(c.run("Read.", reading(round_)) for _ in range(3)))
            found = await collecting
            assert old.run in found.runs
            for result in made:
                report_ = await c.replay(result.run, reading(round_))
                assert report_.status == "identical", report_.divergence


async def test_what_local_models_saved_of_threads_that_are_gone_goes(settings: Settings) -> None:
    states = states_folder(settings.home)
    store = StateStore(StateOptions(bytes(32), 0, 10_000, states))
    async with corral.open(settings) as c:
        old, new = [await c.run("Hi.", HELLO) for _ in "ab"]
        for i, thread in enumerate((old.thread, new.thread, "nobody")):
            store.save(Held([i], thread), b"what was said")
        store.close()
        await age(c, old.run, 60)
        assert (await c.records.gc(MONTH, dry_run=True)).states == 2
        assert taken(states).states == 3
        assert (await c.records.gc(MONTH)).states == 2
        assert (await c.records.gc(MONTH)).states == 0
    assert taken(states).states == 1


async def test_an_unknown_thread_is_named(settings: Settings) -> None:
    async with corral.open(settings) as c:
        with pytest.raises(NotFoundError, match="t-none"):
            await c.records.gc(corral.Retention(keep=1, threads=("t-none",)))


@pytest.mark.parametrize("text", ["", "30", "d", "3 months", "-1d", "1.5d"])
def test_an_age_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="age"):
        parse_age(text)


def test_ages() -> None:
    assert [parse_age(text) for text in ("12h", "30 d", "8W")] == [
        timedelta(hours=12),
        timedelta(days=30),
        timedelta(weeks=8),
    ]


async def test_a_rewind_can_be_undone_after_gc(settings: Settings) -> None:
    async with corral.open(settings) as c:
        _, second, third = await talk(c, [3, 2, 1])
        thread = (await c.records.run(third)).thread
        await c.rewind(thread, 1)
        found = await c.records.gc(corral.Retention(older_than=timedelta(days=30)))
        assert (found.runs, found.checkpoints) == ((), 0)
        await c.undo_rewind(thread)
        for run in (second, third):
            assert (await c.replay(run)).status == "identical"
        model = Listening([turn("Now.")])
        agent = corral.Agent(servers=(), chat_model=model)
        await c.run("And now?", corral.RunOptions(agent=agent, thread=thread))
        assert all(f"I say {days}." in model.heard[0] for days in (3, 2, 1))
        await c.rewind(thread, 2)
        await c.records.delete(thread)
        assert await c.records.threads() == []


class Talk(TypedDict):
    """A thread whose messages are copied in full at every third update."""

    messages: Annotated[list[AnyMessage], DeltaChannel(add_messages, snapshot_frequency=3)]


async def test_checkpoints_that_nothing_needs_are_pruned(settings: Settings) -> None:
    graph = StateGraph(Talk)
    graph.add_node("say", lambda state: {"messages": [AIMessage(f"answer {len(state)}")]})
    graph.add_edge(START, "say")
    async with corral.open(settings) as c:
        (run,) = await talk(c, [1])
        thread = (await c.records.run(run)).thread
        database = c.records.database
        compiled = graph.compile(checkpointer=DatabaseSaver(database))
        where: RunnableConfig = {"configurable": {"thread_id": thread}}
        for number in range(12):
            said: Any = {"messages": [HumanMessage(f"message {number}")]}
            await compiled.ainvoke(said, where, durability="sync")
        states = [state async for state in compiled.aget_state_history(where)]
        base = states[len(states) // 2]
        values = {"base_checkpoint": base.config["configurable"]["checkpoint_id"]}
        await database.write(
            lambda k: k.execute(update(runs).where(runs.c.id == run).values(values))
        )
        found = await c.records.gc()
        left = [state async for state in compiled.aget_state_history(where)]
        assert len(left) == len(states) - found.checkpoints
        assert found.checkpoints > len(states) / 2
        assert (await compiled.aget_state(where)).values == states[0].values
        assert (await compiled.aget_state(base.config)).values == base.values
        assert len(states[0].values["messages"]) > len(base.values["messages"]) > 3
        assert (await c.records.gc()).checkpoints == 0


@pytest.mark.slow
async def test_processes_that_run_look_and_collect_at_once_are_never_in_each_others_way(
    tmp_path: Path,
) -> None:
    (tmp_path / "w").mkdir()
    async with corral.open(settings_in(tmp_path)):
        said = await asyncio.to_thread(compete, tmp_path, busy, 4)
    assert said == [[], [], [], []]
    async with corral.open(settings_in(tmp_path)) as c:
        found = await c.records.gc(corral.Retention(keep=1))
        assert found.note is None
        left = await c.records.runs(limit=1000)
        assert len(left) == len(await c.records.threads()) == 2 * ROUNDS
        for view in left:
            assert len(await c.records.trace(view.run)) == 8
