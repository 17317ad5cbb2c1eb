"""What a conversation costs in prompt tokens, and how much of that a cache of prefixes takes.

    python bench/context.py [--turns N] [--tokens N] [--only local|hosted|results]

    local    the bundled model: prompt tokens of a conversation with tools and facts, and how many
             of them the engine had evaluated before
    hosted   requests as the official SDKs send them to a server on this machine: how much of each
             stands at the beginning of the one before, which is what a provider's cache can take
    results  a conversation in which every third result is long: tokens of all its prompts

Sides, in turn: remembered facts before the prompts that they are for, and, as the named baseline,
all that fit the newest prompt in the system message (which is what Corral did before).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import corral
from corral.agents.services import AgentServices
from corral.memory.store import Source
from tests.models.wire.hosted import PROVIDERS, Provider, hosted
from tests.models.wire.server import Reply, WireServer, shape

CITIES = (
    *(
        "Lisbon",
        "Oslo",
        "Vienna",
        "Athens",
        "Dublin",
        "Prague",
        "Madrid",
        "Berlin",
        "Paris",
        "Rome",
    ),
    *("Cairo", "Lima", "Quito", "Delhi", "Seoul", "Tokyo", "Hanoi", "Perth", "Accra", "Tunis"),
)
NOW, BEFORE = "facts before prompts", "facts in the system message"
SIDES = (NOW, BEFORE)
TOLD = Source(agent="assistant", thread="t-before", run="r-before")


@corral.tool(read_only=True)
def run_code(code: str) -> str:
    """Run a short program and show what it prints."""
    return f"{code} printed 42"


@corral.tool(read_only=True)
def read_file(path: str) -> str:
    """Read a file of the project."""
    return f"{path}: one line and another one"


@corral.tool(read_only=True)
def archive(size: int) -> str:
    """An entry of the archive with so many characters."""
    return ("An old entry of the archive says little. " * (size // 40 + 1))[:size]


@contextmanager
def facts_in_the_system_message() -> Iterator[None]:
    """Runs as they were before: no previews, and facts in the system message."""
    with patch.object(AgentServices, "preview", 0):
        yield


@contextmanager
def as_it_is() -> Iterator[None]:
    """Runs as they are."""
    yield


def as_on(side: str) -> Any:
    """What makes runs those of a side."""
    return as_it_is() if side == NOW else facts_in_the_system_message()


async def yes(_question: corral.Approval) -> corral.Approved:
    """Whatever is asked may be done."""
    return corral.Approved()


async def remember(c: corral.Corral) -> None:
    """A fact about each city, and one that fits every question."""
    for city in CITIES:
        await c.memory.remember(f"The user has been to {city} with a friend.", TOLD, city)
    await c.memory.remember("The user asks about cities for a book.", TOLD, "book")


def question(turn: int) -> str:
    """The prompt of a turn, which two facts fit."""
    return f"I was in {CITIES[turn % len(CITIES)]} once. Tell me one thing about that for the book."


def settings(folder: str, **more: Any) -> corral.Settings:
    """Settings with a home and a workspace of their own."""
    work = Path(folder) / "work"
    work.mkdir(exist_ok=True)
    return corral.load_settings({"home": Path(folder) / "home", "workspace": work, **more})


@dataclass(frozen=True)
class Turn:
    """The prompts of one turn: their tokens (or bytes), and of these from a cache."""

    prompt: int
    cached: int


async def local(turns: int, tokens: int, side: str) -> list[Turn]:
    """A conversation with the bundled model."""
    found = []
    agent = corral.Agent(
        servers=(),
        functions=(run_code, read_file),
        facts=3,
        sampling={"max_tokens": tokens, "temperature": 0},
    )
    with tempfile.TemporaryDirectory() as folder, as_on(side):
        async with corral.open(settings(folder, policy="trusted")) as c:
            await remember(c)
            thread = None
            for turn in range(turns):
                done = await c.run(
                    question(turn), corral.RunOptions(agent=agent, thread=thread, approver=yes)
                )
                thread = done.thread
                found.append(Turn(done.usage.input_tokens, done.usage.cached_tokens))
    return found


async def wired(turns: int, provider: Provider, side: str) -> list[Turn]:
    """A conversation through an official SDK, a tool call in each turn."""
    calls, text = _with_own_tools(shape(f"{provider}_tools")), shape(f"{provider}_text")
    async with WireServer(*itertools.chain(*[[calls, text]] * turns)) as server:
        model = hosted(provider, server.url)
        agent = corral.Agent(chat_model=model, servers=(), functions=(run_code, read_file), facts=3)
        with tempfile.TemporaryDirectory() as folder, as_on(side):
            async with corral.open(settings(folder, policy="trusted")) as c:
                await remember(c)
                thread = None
                for turn in range(turns):
                    options = corral.RunOptions(agent=agent, thread=thread, approver=yes)
                    thread = (await c.run(question(turn), options)).thread
        await model.aclose()
        bodies = [_plain(request.body) for request in server.requests]
    sent = [Turn(len(b), _common(a, b)) for a, b in itertools.pairwise(["", *bodies])]
    pairs = zip(sent[::2], sent[1::2], strict=True)
    return [Turn(a.prompt + b.prompt, a.cached + b.cached) for a, b in pairs]


def _with_own_tools(reply: Reply) -> Reply:
    body = reply.body.replace(b"python__", b"functions__").replace(b"files__", b"functions__")
    return Reply(body)


def _plain(body: dict[str, Any]) -> str:
    """A request as a model reads it: tools, system, messages, without where a cache may end."""
    parts = [body.get("tools"), body.get("system"), *body["messages"]]
    return "\n".join(json.dumps(_unmarked(part)) for part in parts)


def _unmarked(part: Any) -> Any:
    if isinstance(part, dict):
        plain = {key: _unmarked(one) for key, one in part.items() if key != "cache_control"}
        if isinstance(plain.get("content"), str):
            plain["content"] = [{"type": "text", "text": plain["content"]}]
        return plain
    return [_unmarked(one) for one in part] if isinstance(part, list) else part


def _common(before: str, after: str) -> int:
    pairs = zip(before, after, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


async def long_results(turns: int, size: int, **more: Any) -> list[Turn]:
    """A conversation in which every third result has ``size`` characters."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        async with corral.open(settings(folder, **more)) as c:
            thread = None
            for turn in range(turns):
                args = {"size": size if turn % 3 == 0 else 200}
                call = {"name": "functions__archive", "args": args}
                script: list[dict[str, Any]] = [
                    {"text": "I look.", "tool_calls": [call]},
                    {"text": "It says little."},
                ]
                agent = corral.Agent(
                    chat_model=corral.ScriptedModel(script, context_window=1_000_000),
                    servers=(),
                    functions=(archive,),
                    facts=0,
                )
                done = await c.run(
                    "Look it up.", corral.RunOptions(agent=agent, thread=thread, approver=yes)
                )
                thread = done.thread
                found.append(Turn(done.usage.input_tokens, 0))
    return found


def show(what: str, sides: dict[str, list[Turn]]) -> None:
    """A line a turn, then the sums."""
    print(f"\n{what:32}" + "".join(f"{side:>32}" for side in sides))
    print(f"{'turn':32}" + "".join(f"{'prompt':>12}{'cached':>10}{'new':>10}" for _ in sides))
    for turn, row in enumerate(zip(*sides.values(), strict=True), start=1):
        print(f"{turn:<32}" + "".join(_cells([one]) for one in row))
    print(f"{'all':32}" + "".join(_cells(turns) for turns in sides.values()))


def _cells(turns: Sequence[Turn]) -> str:
    prompt, cached = sum(one.prompt for one in turns), sum(one.cached for one in turns)
    return f"{prompt:12,}{cached:10,}{prompt - cached:10,}"


async def measure(options: argparse.Namespace) -> None:
    """The tables that are wanted."""
    turns = options.turns
    if options.only in (None, "local"):
        found = {side: await local(turns, options.tokens, side) for side in SIDES}
        show("bundled model, tokens", found)
    if options.only in (None, "hosted"):
        for provider in PROVIDERS:
            found = {side: await wired(turns, provider, side) for side in SIDES}
            show(f"{provider}, bytes of requests", found)
    if options.only in (None, "results"):
        print(f"\n{'tokens of all prompts':32}{'previews':>12}{'whole':>12}{'ratio':>8}")
        for size in (10_000, 40_000, 200_000):
            short = await long_results(turns, size)
            whole = await long_results(turns, size, tool_preview=1_000_000)
            a, b = (sum(one.prompt for one in side) for side in (short, whole))
            print(f"{f'results of {size:,} characters':32}{a:12,}{b:12,}{a / b:8.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=24, help="longest local answer")
    parser.add_argument("--only", choices=("local", "hosted", "results"))
    asyncio.run(measure(parser.parse_args()))
