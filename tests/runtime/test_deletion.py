"""A deleted thread is in no file any more, and everything else is as it was."""

from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import corral
from corral.errors import ConflictError, NotFoundError
from corral.runtime.config import Settings
from corral.runtime.models.local.states.held import Held
from corral.runtime.models.local.states.removal import states_folder, taken
from corral.runtime.models.local.states.store import StateOptions, StateStore
from tests.runtime.agents import Ledger, Turn, scripted, turn

SECRETS = {
    "said": "zebra-crossing-7261",
    "answered": "walrus-moustache-5512",
    "argument": "quokka-smile-9034",
    "result": "pangolin-scale-3328",
    "fact": "narwhal tusk 4417",
    "file": "axolotl-gill-8853",
}
"""What is only in the thread that is deleted, each in another place of the database."""


@corral.tool()
def file_away(text: str) -> str:
    """Take a text and give a long one back."""
    return f"{SECRETS['result']} " + "".join(f"{n * 7919 % 10007} " for n in range(8000))


def remembering(fact: str, *turns: Turn) -> corral.Agent:
    """An agent that keeps a fact, and then does as ``turns`` say."""
    call = {"name": "memory__remember", "args": {"fact": fact}}
    model = corral.ScriptedModel([{"tool_calls": [call]}, *turns])
    return corral.Agent(functions=(file_away,), servers=("memory",), chat_model=model, facts=0)


def options(agent: corral.Agent, tmp_path: Path) -> corral.RunOptions:
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rules]]\ntool = "*"\naction = "allow"\n')
    return corral.RunOptions(agent=agent, policy=str(policy))


def found_in(settings: Settings, texts: list[str]) -> set[str]:
    """Those of the texts that any file of the home holds, its write-ahead log included."""
    contents = [path.read_bytes() for path in settings.home.rglob("*") if path.is_file()]
    return {text for text in texts if any(text.encode() in content for content in contents)}


async def secret_run(c: corral.Corral, tmp_path: Path) -> corral.RunResult:
    """A run that leaves each of ``SECRETS`` in the database."""
    (c.settings.workspace / "note.txt").write_text(SECRETS["file"])
    agent = remembering(
        SECRETS["fact"],
        turn("Filing.", file_away={"text": SECRETS["argument"]}),
        turn(SECRETS["answered"]),
    )
    result = await c.run(SECRETS["said"], options(agent, tmp_path))
    assert result.status == "completed", result.error
    return result


async def test_a_deleted_thread_is_in_no_file_any_more(settings: Settings, tmp_path: Path) -> None:
    async with corral.open(settings) as c:
        kept = await c.run("I stay.", options(remembering("The user stays."), tmp_path))
        gone = await secret_run(c, tmp_path)
        assert found_in(settings, list(SECRETS.values())) == set(SECRETS.values())

        deleted = await c.records.delete(gone.thread)
        assert (deleted.threads, deleted.runs) == ((gone.thread,), (gone.run,))
        assert (deleted.memories, deleted.note) == (1, None)
        assert deleted.contents > 0
        ids = [gone.thread, gone.run]
        assert found_in(settings, [*SECRETS.values(), *ids]) == set()
        with pytest.raises(NotFoundError):
            await c.records.run(gone.run)
        with pytest.raises(NotFoundError):
            await c.records.delete(gone.thread)

        assert [view.thread for view in await c.records.threads()] == [kept.thread]
        assert [fact.text for fact in await c.memory.all()] == ["The user stays."]
        assert (await c.replay(kept.run)).status == "identical"
    assert found_in(settings, list(SECRETS.values())) == set()
    with closing(sqlite3.connect(settings.home / "corral.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


async def test_what_a_local_model_saved_of_it_goes_too(settings: Settings) -> None:
    states = states_folder(settings.home)
    store = StateStore(StateOptions(bytes(32), 0, 10_000, states))
    async with corral.open(settings) as c:
        gone, kept = [
            await c.run("Hi.", corral.RunOptions(agent=scripted([turn("Hello.")]))) for _ in "ab"
        ]
        for i, conversation in enumerate((gone.thread, f"{gone.thread}/helper", kept.thread)):
            store.save(Held([i], conversation), b"what was said")
        store.flush()
        assert taken(states).states == 3
        assert (await c.records.delete(gone.thread)).states == 2
        assert taken(states).states == 1
        assert (await c.records.delete(kept.thread)).states == 1
    store.close()
    assert taken(states).states == 0


async def test_questions_and_what_they_ask_about_go_too(settings: Settings) -> None:
    ledger = Ledger()
    agent = scripted([turn("Paying.", pay={"amount": 987654321})], *ledger.tools())
    async with corral.open(settings) as c:
        paused = await c.run("Pay.", corral.RunOptions(agent=agent))
        assert paused.status == "paused"
        assert found_in(settings, ["987654321"])
        await c.records.delete(paused.thread)
        assert await c.approvals() == []
        assert not found_in(settings, ["987654321"])


async def test_a_fact_that_others_told_as_well_stays_as_theirs(
    settings: Settings, tmp_path: Path
) -> None:
    async with corral.open(settings) as c:

        async def tell(fact: str) -> corral.RunResult:
            agent = remembering(fact, turn("Noted."))
            return await c.run("Note it.", options(agent, tmp_path))

        first = await tell("The user has a cat.")
        second = await tell("the USER has a cat.")
        third = await tell("The user has a dog.")
        deleted = await c.records.delete(second.thread)
        assert deleted.memories == 0
        (cat,) = [fact for fact in await c.memory.all() if "cat" in fact.text]
        assert (cat.thread, cat.run) == (first.thread, first.run)
        assert (await c.records.delete(third.thread)).memories == 1
        again = await tell("The user has a cat.")
        assert (await c.records.delete(first.thread)).memories == 0
        assert [(fact.text, fact.run) for fact in await c.memory.all()] == [
            ("The user has a cat.", again.run)
        ]
        assert (await c.records.delete(again.thread)).memories == 1
        assert await c.memory.all() == []


async def test_a_fork_in_another_thread_is_deleted_with_it_or_nothing_is(
    settings: Settings,
) -> None:
    agent = corral.RunOptions(agent=scripted([turn("One."), turn("Two.")]))
    async with corral.open(settings) as c:
        parent = await c.run("Count.", agent)
        fork = await c.fork(parent.run, corral.Fork(at=1), agent)
        second = await c.fork(fork.run, corral.Fork(at=1), agent)
        other = await c.run("I stay.", agent)
        with pytest.raises(ConflictError, match=fork.thread) as refused:
            await c.records.delete(parent.thread)
        assert "--with-forks" in refused.value.hint
        assert len(await c.records.runs()) == 4, "nothing was deleted"
        assert (await c.records.delete(second.thread)).threads == (second.thread,)
        assert (await c.replay(fork.run, agent)).status == "identical"
        deleted = await c.records.delete(parent.thread, with_forks=True)
        assert set(deleted.threads) == {parent.thread, fork.thread}
        assert [view.run for view in await c.records.runs()] == [other.run]


async def test_a_thread_that_is_being_run_is_not_deleted(settings: Settings) -> None:
    refused: list[str] = []
    async with corral.open(settings) as c:

        async def meddle() -> str:
            """Try to delete the thread that this runs in."""
            (view,) = await c.records.threads()
            try:
                await c.records.delete(view.thread)
            except ConflictError as error:
                refused.append(error.message)
            return "tried"

        tool = corral.tool(read_only=True)(meddle)
        result = await c.run(
            "Meddle.",
            corral.RunOptions(agent=scripted([turn("Now.", meddle={}), turn("Done.")], tool)),
        )
        assert (result.status, result.output) == ("completed", "Done.")
        assert [result.thread in message for message in refused] == [True]
        await c.records.delete(result.thread)
        assert await c.records.threads() == []


async def test_contents_that_others_refer_to_stay(settings: Settings, tmp_path: Path) -> None:
    async with corral.open(settings) as c:
        agent = scripted([turn("Filing.", file_away={"text": "x"}), turn("Filed.")], file_away)
        both = [await c.run("File it.", options(agent, tmp_path)) for _ in range(2)]
        await c.records.delete(both[0].thread)
        assert (await c.replay(both[1].run, options(agent, tmp_path))).status == "identical"
        (call,) = [e for e in await c.records.trace(both[1].run) if e.kind == "tool"]
        assert SECRETS["result"] in str(call.result)


async def test_a_reader_keeps_the_log_and_the_deletion_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.runtime.housekeeping.disk.PATIENCE_MS", 50)
    agent = corral.RunOptions(agent=scripted([turn(SECRETS["answered"])]))
    async with corral.open(settings) as c:
        gone = await c.run(SECRETS["said"], agent)
        again = dataclasses.replace(agent, thread=gone.thread)
        await c.run("More.", again)
        with closing(sqlite3.connect(settings.home / "corral.db", isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM runs").fetchone()
            deleted = await c.records.delete(gone.thread)
            assert "corral.db-wal" in str(deleted.note)
            assert "corral gc" in str(deleted.note)
        assert (await c.records.gc()).note is None
        assert found_in(settings, [SECRETS["said"], SECRETS["answered"]]) == set()
