"""The checkpoint saver: the same answers as LangGraph's own, strict, and linear in the thread."""

from __future__ import annotations

import dataclasses
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ormsgpack
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph
from sqlalchemy import func, literal, select

import corral
from corral.agents.prompting import ReactState
from corral.runtime.checkpoints import DatabaseSaver, strict_serializer
from corral.runtime.config import Settings
from corral.runtime.database import sqlite_url
from corral.runtime.migrate import open_database
from corral.runtime.tables import blobs, checkpoint_writes, checkpoints, effects, runs
from tests.runtime.agents import scripted, turn


def echo_graph() -> StateGraph[Any, Any, Any, Any]:
    async def echo(state: ReactState) -> ReactState:
        return {"messages": [HumanMessage(f"echo {len(state['messages'])}")]}

    graph = StateGraph(ReactState)
    graph.add_node("echo", echo)
    graph.set_entry_point("echo")
    return graph


async def test_it_gives_what_the_saver_in_memory_gives(tmp_path: Path) -> None:
    database = await open_database(sqlite_url(tmp_path / "a.db"))
    histories = []
    for saver in (DatabaseSaver(database), InMemorySaver()):
        graph = echo_graph().compile(checkpointer=saver)
        config: Any = {"configurable": {"thread_id": "t"}}
        for n in range(8):
            message = HumanMessage(f"m{n}", id=f"m{n}")
            await graph.ainvoke({"messages": [message]}, config, durability="exit")
        states = [s async for s in graph.aget_state_history(config)]
        histories.append(
            [
                (
                    s.metadata and s.metadata["step"],
                    [m.content for m in s.values.get("messages", ())],
                )
                for s in states
            ]
        )
        newest = [s async for s in graph.aget_state_history(config, limit=2)]
        assert len(newest) == 2
    assert histories[0] == histories[1]
    await database.aclose()


def nothing_twice() -> Iterator[str]:
    """Messages that a compressor can make nothing of: no two have anything in common."""
    chance = random.Random(7)
    while True:
        yield "".join(chance.choices(string.ascii_letters, k=1000))


async def test_a_thread_grows_with_what_was_said_and_not_with_its_square(
    settings: Settings,
) -> None:
    agent = scripted([turn("A" * 1000)])

    async def stored(c: corral.Corral) -> int:
        columns = [checkpoints.c.data, checkpoint_writes.c.data, blobs.c.data]
        columns += [effects.c.request, effects.c.result, runs.c.input, runs.c.output]
        total = [select(func.sum(func.length(column))).scalar_subquery() for column in columns]
        sizes = select(sum((func.coalesce(one, 0) for one in total), start=literal(0)))
        return int(await c.records.database.read(lambda k: k.execute(sizes).scalar_one()))

    async with corral.open(settings) as c:
        options = corral.RunOptions(agent=agent)
        said = iter(nothing_twice())
        first = await c.run(next(said), options)
        options = dataclasses.replace(options, thread=first.thread)
        marks = [await stored(c)]
        for _ in range(2):
            for _ in range(8):
                await c.run(next(said), options)
            marks.append(await stored(c))
    early, late = marks[1] - marks[0], marks[2] - marks[1]
    assert late < 1.1 * early


async def test_a_stored_checkpoint_cannot_name_code_to_call(tmp_path: Path) -> None:
    target = tmp_path / "owned"
    call = ormsgpack.packb(("os", "system", f"touch {target}"))
    evil = ormsgpack.packb(ormsgpack.Ext(0, call))
    strict_serializer().loads_typed(("msgpack", evil))
    assert not target.exists()
