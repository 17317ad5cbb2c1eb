"""What all sides of ``bench/local.py`` are measured at: decoding, and the first token's time.

Sides take turns within each round, in an order that rotates: what else the machine does falls on
all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import psutil

from bench._local_ask import Answer, Ask, Message, Side
from bench._local_rows import DIRECT, SERVER, Row, at_least, at_most

SYSTEM = "You are a storyteller. You tell long stories in plain English. " * 4
SUBJECTS = ("a lighthouse", "a baker", "a lost dog", "two rivers", "an old clock", "a tall tree")
FACT = "Fact {i}.{n}: the {n}th house of street {i} has {n} windows, a red door and a garden. "
_COUNTED_FROM = 2
"""Turns before this one fill the caches."""


@dataclass(frozen=True)
class Plan:
    """How much is measured; ``tokens`` of an answer, and about what a ``thread`` begins with."""

    rounds: int
    tokens: int
    thread: int


@dataclass
class Samples:
    """Measurements by side."""

    wall: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    other: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, side: str, wall: float, other: float) -> None:
        self.wall[side].append(wall)
        self.other[side].append(other)


@dataclass
class Thread:
    """A conversation, as one side has had it."""

    number: int
    size: int
    messages: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        facts = "".join(FACT.format(i=self.number, n=n) for n in range(self.size // 30))
        self.messages.append({"role": "system", "content": f"Street {self.number}. {facts}"})

    async def turn(self, side: Side, number: int) -> Answer:
        """Ask the next thing, and keep what the answer was."""
        text = f"What does house {number} of street {self.number} look like?"
        self.messages.append({"role": "user", "content": text})
        ask = Ask(list(self.messages), tokens=8, conversation=f"thread {self.number}")
        answer = await side.ask(ask)
        self.messages.append({"role": "assistant", "content": answer.text})
        return answer


def story(number: int, tokens: int) -> Ask:
    """A request whose answer is long; the system message is always the same."""
    subject = SUBJECTS[number % len(SUBJECTS)]
    return Ask(
        [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"{number}. Tell a very long story of {subject}."},
        ],
        tokens,
        seed=number,
        conversation=f"story {number}",
    )


async def decoding(sides: Sequence[Side], plan: Plan, width: int) -> list[Row]:
    """Tokens a second of ``width`` answers at once, whose prompts are in the cache."""
    samples = Samples()
    for number in range(plan.rounds):
        # Left to itself the server gives one answer the slot in which another's prompt is.
        asks = [replace(story(number * width + i, plan.tokens), slot=i) for i in range(width)]
        for side in rotated(sides, number):
            await asyncio.gather(*(side.ask(replace(ask, tokens=1)) for ask in asks))
            cpu, start = cpu_seconds(side), time.monotonic()
            answers = await asyncio.gather(*map(side.ask, asks))
            wall = time.monotonic() - start
            made = sum(answer.made for answer in answers)
            samples.add(side.name, made / wall, (cpu_seconds(side) - cpu) / made * 1e3)
    what = "one answer" if width == 1 else f"{width} answers at once"
    aims = [at_least(samples.wall, 0.95 if width == 1 else 0.9, SERVER)]
    if width > 2:
        aims.append(at_least(samples.wall, 2.0, DIRECT))
    return [
        Row(f"{what}: tokens/s", samples.wall, aims),
        Row(f"{what}: CPU ms a token", samples.other),
    ]


async def turns(sides: Sequence[Side], plan: Plan, threads: int) -> list[Row]:
    """The first token's time when ``threads`` conversations take turns, and what was evaluated."""
    samples = Samples()
    talks = {
        side.name: [Thread(i + 10 * threads, plan.thread) for i in range(threads)] for side in sides
    }
    for number in range(_COUNTED_FROM + plan.rounds):
        for i in range(threads):
            for side in rotated(sides, number + i):
                answer = await talks[side.name][i].turn(side, number)
                if number >= _COUNTED_FROM:
                    samples.add(side.name, answer.wait * 1e3, answer.evaluated)
    what = "one thread" if threads == 1 else f"{threads} threads in turn"
    aims = [at_most(samples.wall, 1.0, SERVER)]
    if threads > 1:
        aims.append(at_most(samples.wall, 0.1, DIRECT))
    return [
        Row(f"{what}: first token, ms", samples.wall, aims),
        Row(f"{what}: prompt tokens evaluated", samples.other, digits=0),
    ]


def rotated(sides: Sequence[Side], number: int) -> Iterator[Side]:
    """The sides, beginning with another one in each round."""
    for i in range(len(sides)):
        yield sides[(number + i) % len(sides)]


def cpu_seconds(side: Side) -> float:
    """What a side's process has used of the CPU so far."""
    times = psutil.Process(side.pid).cpu_times()
    return times.user + times.system
