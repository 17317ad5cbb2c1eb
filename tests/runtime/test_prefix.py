"""What a model is sent begins as it did the time before: with tools, facts, summaries, restarts."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

import corral
from corral.memory.store import Source
from corral.policies.provenance.labels import PUBLIC, UNKNOWN
from corral.runtime.messages import encode
from corral.runtime.models.contract import Chunk, ModelRequest
from tests.runtime.agents import Turn, turn

pytestmark = pytest.mark.slow

ELSEWHERE = Source(agent="assistant", thread="t-elsewhere", run="r-elsewhere")
TEA = "The user drinks tea in the morning."


_ABRIDGED = re.compile(r"\d of \d+ characters left out|earlier messages left out")


@dataclass
class Heard:
    """What a model was sent, and at which requests it may begin differently."""

    requests: list[list[Any]] = field(default_factory=list)
    tools: list[list[str]] = field(default_factory=list)
    restarts: set[int] = field(default_factory=set)
    summaries: list[int] = field(default_factory=list)

    def restart(self) -> None:
        """The next request may begin differently."""
        self.restarts.add(len(self.requests))

    def hear(self, request: ModelRequest) -> None:
        """Keep a request as it is put into words."""
        if request.purpose == "summary":
            self.summaries.append(len(self.requests))
            self.restart()
            return
        self.requests.append([encode(message) for message in request.messages])
        if _ABRIDGED.search(self.text()):  # the newest messages alone are longer than the window
            self.restarts.add(len(self.requests) - 1)
            self.restart()
        self.tools.append([tool.name for tool in request.tools])

    def broken(self) -> list[int]:
        """The requests that begin differently for no reason."""
        pairs = enumerate(zip(self.requests, self.requests[1:], strict=False), start=1)
        return [at for at, (a, b) in pairs if b[: len(a)] != a and at not in self.restarts]

    def text(self, at: int = -1) -> str:
        """All that one request says."""
        return "\n".join(str(message["content"]) for message in self.requests[at])


class Obedient(corral.ScriptedModel):
    """Makes the calls that the prompt says (``look 3 5000`` for one), and then answers."""

    def __init__(self, heard: Heard, window: int = 128_000) -> None:
        super().__init__([turn()], context_window=window)
        self._heard = heard

    def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        self._heard.hear(request)
        return corral.ScriptedModel([self._answer(request)]).stream(replace(request, turn=0))

    def check_complete(self, turns: int) -> None:
        """There is no script."""

    def _answer(self, request: ModelRequest) -> Turn:
        if request.purpose == "summary":
            return turn(f"Summary {len(self._heard.summaries)}: much was looked at.")
        newest = request.messages[-1]
        calls = [
            {"name": "functions__look", "args": {"at": int(at), "size": int(size)}}
            for at, size in re.findall(r"look (\d+) (\d+)", str(newest.text))
        ]
        if isinstance(newest, HumanMessage) and calls:
            return {"text": "I look.", "tool_calls": calls}
        return turn(f"That was message {len(request.messages)}.")


@corral.tool(read_only=True)
def look(at: int, size: int) -> str:
    """A text of so many words."""
    return f"thing {at} " * size


def agent(heard: Heard, window: int = 128_000, **fields: Any) -> corral.Agent:
    """An agent that looks, with a memory."""
    given = {"functions": (look,), "servers": (), **fields}
    return corral.Agent(chat_model=Obedient(heard, window), **given)


async def say(c: corral.Corral, one: corral.Agent, prompt: str, thread: str | None) -> Any:
    """A run that completes and can be replayed."""
    result = await c.run(prompt, corral.RunOptions(agent=one, thread=thread))
    assert result.status == "completed", result.error
    return result


@dataclass(frozen=True)
class Said:
    """One turn of a conversation: what is looked at, and what becomes known or is forgotten."""

    sizes: tuple[int, ...] = ()
    learns: bool = False
    forgets: bool = False
    afresh: bool = False  # in another process, as far as Corral can tell


TURNS = st.lists(
    st.builds(
        Said,
        st.lists(st.sampled_from((3, 40, 400)), max_size=3).map(tuple),
        st.booleans(),
        st.integers(0, 5).map(lambda n: n == 0),
        st.booleans(),
    ),
    min_size=2,
    max_size=8,
)


async def converse(folder: Path, turns: Sequence[Said], window: int) -> Heard:
    """Have a conversation, and replay each of its runs."""
    heard, facts = Heard(), []
    (folder / "work").mkdir()
    overrides = {"home": folder / "home", "workspace": folder / "work", "tool_preview": 600}
    own = corral.load_settings(overrides)
    thread: str | None = None
    at = 0
    while at < len(turns):
        async with corral.open(own) as c:
            one = agent(heard, window)
            for said in turns[at:]:
                if said.learns:
                    label = PUBLIC if at % 2 else UNKNOWN
                    text = f"The user wants to look at thing {at}."
                    facts.append((await c.memory.remember(text, ELSEWHERE, text, label)).id)
                if said.forgets and facts:
                    await c.memory.forget(facts.pop(0))
                    heard.restart()
                looks = ", ".join(f"look {at} {size}" for size in said.sizes) or "nothing"
                done = await say(c, one, f"The user wants to {looks}.", thread)
                thread = done.thread
                assert (await c.replay(done.run)).status == "identical"
                at += 1
                if said.afresh:
                    break
    return heard


@given(turns=TURNS, window=st.sampled_from((1500, 3000, 128_000)))
@hypothesis_settings(max_examples=8, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_each_request_begins_with_the_one_before(turns: list[Said], window: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        heard = asyncio.run(converse(Path(folder), turns, window))
    assert heard.broken() == []
    instructions = {str(request[0]) for request in heard.requests}
    assert len(instructions) == 1, "the instructions never change"
    offered = [tools for tools in heard.tools if "results__read" not in tools]
    assert heard.tools[: len(offered)] == offered, "what is offered once stays"
    if window == 128_000:
        assert heard.summaries == []


def test_a_summary_makes_a_new_beginning_that_stays_for_many_turns() -> None:
    turns = [Said((40,), learns=at % 4 == 0) for at in range(24)]
    with tempfile.TemporaryDirectory() as folder:
        heard = asyncio.run(converse(Path(folder), turns, 4000))
    assert heard.broken() == []
    assert len(heard.summaries) >= 2
    between = [b - a for a, b in zip(heard.summaries, heard.summaries[1:], strict=False)]
    assert min(between) >= 6, "requests from one summary to the next"
