"""What a conversation takes on the disk: Corral's database against LangGraph's own saver.

A message is about 1 KB of English-like text that nobody repeats; half of them are the user's and
half the model's, which answers at once. Corral stores the conversation *and* the journal: every
model call with its request, its answer, its tokens and its time. LangGraph stores the conversation
with ``AsyncSqliteSaver``, durability ``sync``, in a graph as its tutorials write it. Both files are
measured when they are closed, with their write-ahead logs emptied.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from corral.agents.app import open as open_corral
from corral.agents.options import RunOptions
from corral.agents.spec import Agent
from corral.runtime.config import load_settings
from corral.runtime.models.contract import Chunk, FinalChunk, ModelRequest, Usage

KB = 1024


def message(number: int) -> str:
    """Message ``number`` of the conversation: 1 KB of words of which each is met now and then."""
    words = random.Random(number)
    text = ""
    while len(text) < KB:
        letters = words.choices("etaoinshrdlucmfw", k=words.randint(2, 9))
        text += "".join(letters) + " "
    return text[:KB]


class Speaker:
    """A model that says the conversation's next message; its window is never full."""

    name = "speaker"
    context_window = 10**9

    def __init__(self) -> None:
        self.said = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        del request
        self.said += 1
        yield FinalChunk(AIMessage(message(2 * self.said - 1)), Usage(10, 10), "stop")

    def check_complete(self, turns: int) -> None:
        assert turns == 1

    async def aclose(self) -> None:
        return None


async def corral_bytes(folder: Path, messages: int) -> int:
    """The database after a thread of so many messages."""
    settings = load_settings({"home": folder / "home", "workspace": folder})
    agent = Agent(servers=(), chat_model=Speaker(), facts=0)
    thread = None
    async with open_corral(settings) as corral:
        for number in range(0, messages, 2):
            result = await corral.run(message(number), RunOptions(agent=agent, thread=thread))
            assert result.status == "completed", result.error
            thread = result.thread
    return size(folder / "home" / "corral.db")


class State(TypedDict):
    """The state of the graph that LangGraph runs by itself."""

    messages: Annotated[list[AnyMessage], add_messages]


async def langgraph_bytes(folder: Path, messages: int) -> int:
    """LangGraph's database after a thread of so many messages."""

    async def speak(state: State) -> dict[str, Any]:
        return {"messages": [AIMessage(message(len(state["messages"])))]}

    graph = StateGraph(State)
    graph.add_node("model", speak)
    graph.add_edge(START, "model")
    graph.add_edge("model", END)
    path = folder / "langgraph.db"
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        compiled = graph.compile(checkpointer=saver)
        for number in range(0, messages, 2):
            said: Any = {"messages": [HumanMessage(message(number))]}
            await compiled.ainvoke(said, {"configurable": {"thread_id": "t"}}, durability="sync")
    return size(path)


def size(path: Path) -> int:
    """A database's bytes, with what lies beside it."""
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))


async def measure(counts: list[int]) -> None:
    print("| messages | said | LangGraph `sync` | Corral | Corral / LangGraph | Corral / said |")
    print("|---:|---:|---:|---:|---:|---:|")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            theirs = await langgraph_bytes(Path(folder), count)
        with tempfile.TemporaryDirectory() as folder:
            ours = await corral_bytes(Path(folder), count)
        said = count * KB
        print(
            f"| {count:,} | {said / 1e6:.2f} MB | {theirs / 1e6:.2f} MB | {ours / 1e6:.2f} MB "
            f"| {ours / theirs:.3f} | {ours / said:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, nargs="+", default=[10, 100, 1000])
    asyncio.run(measure(parser.parse_args().messages))
