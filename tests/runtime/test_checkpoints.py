"""The checkpoint saver: the same answers as LangGraph's own, strict, and linear in the thread."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import ormsgpack
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph
from sqlalchemy import func, select

import corral
from corral.agents.react import ReactState
from corral.runtime.checkpoints import DatabaseSaver, strict_serializer
from corral.runtime.config import Settings
from corral.runtime.database import sqlite_url
from corral.runtime.migrate import open_database
from corral.runtime.tables import checkpoint_writes, checkpoints
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


async def test_a_thread_grows_with_what_was_said_and_not_with_its_square(
    settings: Settings,
) -> None:
    agent = scripted([turn("A" * 1000)])

    async def stored(c: corral.Corral) -> int:
        sizes = select(
            select(func.coalesce(func.sum(func.length(checkpoints.c.data)), 0)).scalar_subquery()
            + select(
                func.coalesce(func.sum(func.length(checkpoint_writes.c.data)), 0)
            ).scalar_subquery()
        )
        return int(await c.records.database.read(lambda k: k.execute(sizes).scalar_one()))

    async with corral.open(settings) as c:
        options = corral.RunOptions(agent=agent)
        first = await c.run("B" * 1000, options)
        options = dataclasses.replace(options, thread=first.thread)
        marks = [await stored(c)]
        for _ in range(2):
            for _ in range(15):
                await c.run("B" * 1000, options)
            marks.append(await stored(c))
    early, late = marks[1] - marks[0], marks[2] - marks[1]
    assert late < 1.1 * early


async def test_a_stored_checkpoint_cannot_name_code_to_call(tmp_path: Path) -> None:
    target = tmp_path / "owned"
    call = ormsgpack.packb(("os", "system", f"touch {target}"))
    evil = ormsgpack.packb(ormsgpack.Ext(0, call))
    strict_serializer().loads_typed(("msgpack", evil))
    assert not target.exists()
