"""What a step costs: as much late in a run as early, and less than a write to the disk each."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
from collections.abc import AsyncIterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.graph.message import _messages_delta_reducer
from sqlalchemy import Connection, text

import corral
from corral.agents.reducer import add_messages
from corral.errors import StorageError
from corral.jsontypes import digest
from corral.runtime.config import Settings
from corral.runtime.database import Database, sqlite_url
from corral.runtime.messages import Transcripts, encode
from corral.runtime.migrate import open_database
from corral.runtime.models.contract import Chunk, FinalChunk, ModelRequest, Usage

EARLY, LATE, STEPS = range(20, 30), range(200, 210), 212


class Counting:
    """A model that counts the calls of functions, Python's and C's, from one turn to the next.

    It does the same at every turn, which a script, estimating the tokens of the prompt, does not.
    """

    name = "counting"
    context_window = 10**9

    def __init__(self) -> None:
        self.calls: list[int] = []

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Start to count anew, and call the tool once more."""
        sys.setprofile(None)
        call = {
            "name": "functions__count",
            "args": {"number": request.turn},
            "id": f"{request.turn}",
        }
        more = request.turn < STEPS
        message = AIMessage("Now.", tool_calls=[call]) if more else AIMessage("Done.")
        yield FinalChunk(message, Usage(1, 1), "tool_calls" if more else "stop")
        self.calls.append(0)
        if request.turn in EARLY or request.turn in LATE:
            sys.setprofile(self._count)

    def _count(self, _frame: object, event: str, _argument: object) -> None:
        self.calls[-1] += event in ("call", "c_call")

    def check_complete(self, turns: int) -> None:
        """All turns were taken."""
        assert turns == STEPS + 1

    async def aclose(self) -> None:
        """Nothing to close."""


async def test_a_late_step_does_the_work_of_an_early_one(settings: Settings) -> None:
    @corral.tool(read_only=True)
    async def count(number: int) -> int:
        """The number itself."""
        return number

    model = Counting()
    agent = corral.Agent(functions=(count,), servers=(), chat_model=model, facts=3)
    limits = corral.RunLimits(max_steps=STEPS + 1)
    async with corral.open(settings) as c:
        try:
            result = await c.run("Go.", corral.RunOptions(agent=agent, limits=limits))
        finally:
            sys.setprofile(None)
    assert (result.status, result.output) == ("completed", "Done."), result.error
    early, late = (sum(model.calls[turn] for turn in turns) for turns in (EARLY, LATE))
    assert 0 < late <= 1.08 * early


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(sqlite_url(tmp_path / "a.db"))
    await opened.write(lambda c: c.execute(text("CREATE TABLE t (n INTEGER PRIMARY KEY)")))
    yield opened
    await opened.aclose()


def put(number: int) -> Any:
    return lambda c: c.execute(text("INSERT INTO t VALUES (:n)"), {"n": number})


def numbers(path: Path) -> list[int]:
    """What another connection sees."""
    with sqlite3.connect(path) as other:
        return [row[0] for row in other.execute("SELECT n FROM t ORDER BY rowid")]


async def test_an_append_is_there_when_it_returns_and_for_others_too(
    database: Database, tmp_path: Path
) -> None:
    for number in range(200):  # more than are made before the writer's thread gets its turn
        written = database.append(put(number))
        if not written.done():
            await asyncio.wrap_future(written)
        assert numbers(tmp_path / "a.db")[-1] == number


async def test_an_append_never_overtakes_what_was_queued(
    database: Database, tmp_path: Path
) -> None:
    seen: list[int] = []

    def note(number: int) -> Any:
        def work(connection: Connection) -> None:
            put(number)(connection)
            seen.append(number)

        return work

    written: list[Future[None]] = []
    choice = random.Random(7)
    for number in range(300):
        if choice.random() < 0.5:
            written.append(database.append(note(number)))
        else:
            written.append(database.submit(note(number), durable=choice.random() < 0.5))
        if choice.random() < 0.2:
            await asyncio.sleep(0)
    await asyncio.gather(*map(asyncio.wrap_future, written))
    assert seen == list(range(300)) == numbers(tmp_path / "a.db")


async def test_an_append_waits_in_the_thread_for_another_process(
    database: Database, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    written = database.append(put(1))
    assert not written.done()  # this thread has other things to do
    other.execute("INSERT INTO t VALUES (0)")
    other.execute("COMMIT")
    other.close()
    await asyncio.wrap_future(written)
    assert numbers(tmp_path / "a.db") == [0, 1]


async def test_an_append_that_fails_says_so_and_leaves_nothing(
    database: Database, tmp_path: Path
) -> None:
    database.append(put(1)).result()
    with pytest.raises(StorageError, match="UNIQUE"):
        database.append(put(1)).result()
    database.append(put(2)).result()
    assert numbers(tmp_path / "a.db") == [1, 2]
    await database.aclose()
    with pytest.raises(StorageError, match="closed"):
        database.append(put(3))


def test_the_identity_of_a_prompt_is_the_digest_of_all_of_it() -> None:
    transcripts = Transcripts()
    system = SystemMessage("Be brief.")
    prompts = [
        [system, HumanMessage("a")],
        [system, HumanMessage("a"), AIMessage("b"), HumanMessage("ü\ud800")],
        [SystemMessage("Another."), HumanMessage("a")],  # not the one before and more
        [],
    ]
    for request in ({"model": "m", "tools": []}, {}, {"a": "before messages"}):
        for prompt in prompts:
            whole = {**request, "messages": [digest(encode(message)) for message in prompt]}
            assert transcripts.identity(request, prompt) == digest(whole)


def test_messages_come_together_as_langgraph_puts_them_together() -> None:
    choice = random.Random(3)
    threads: list[tuple[Any, Any]] = [([], [])]
    for _ in range(400):
        mine, theirs = choice.choice(threads[-6:])  # threads that go on from one beginning, too
        batch: list[Any] = [_message(choice) for _ in range(choice.randint(0, 3))]
        writes = [batch] if choice.random() < 0.7 else batch
        grown = add_messages(mine, writes), _messages_delta_reducer(theirs, writes)
        assert grown[0] == grown[1]
        assert len(mine) == len(theirs)  # what there was before stays as it is
        threads.append(grown)
    assert max(len(mine) for mine, _ in threads) > 20


def _message(choice: random.Random) -> AnyMessage | RemoveMessage | dict[str, str]:
    name = str(choice.randint(0, 60)) if choice.random() < 0.9 else None
    match choice.randint(0, 9):
        case 0 if name is not None:
            return RemoveMessage(id=name)
        case 1:
            return {"role": "user", "content": "typed", "id": f"d{name}"}
        case 2:
            return ToolMessage("a result", tool_call_id="c", id=name)
        case _:
            return AIMessage(f"text {choice.random()}", id=name)
