"""Labelled trajectories of agents: loops of each kind, polling, paging and ordinary work.

Those in ``bench/data/trajectories`` are written by hand, the others are made here from a seed. Some
of both are kept apart (``unseen``): no detector was changed for what it makes of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LOOPS = ("repeat", "cycle", "oscillation", "text", "stall")
"""The kinds that are loops; every other kind is harmless."""

_FOLDER = Path(__file__).parent / "data" / "trajectories"

Step = dict[str, Any]
"""What happened: ``user``, ``said`` (``alone``: to another prompt), or ``call`` with ``args``,
``gives`` and ``error``."""


@dataclass(frozen=True)
class Trajectory:
    """What one agent did. ``unseen``: it is kept apart, see the module's text."""

    name: str
    kind: str
    steps: tuple[Step, ...]
    unseen: bool

    @property
    def is_loop(self) -> bool:
        """Whether it goes round in circles."""
        return self.kind in LOOPS


def corpus() -> list[Trajectory]:
    """All trajectories, always the same."""
    return [
        *_written(),
        *_made(random.Random(1), unseen=False),
        *_made(random.Random(3), unseen=True),
    ]


def _written() -> Iterator[Trajectory]:
    for path in sorted(_FOLDER.glob("*.yaml")):
        for data in yaml.safe_load(path.read_text("utf-8")):
            steps = tuple(_expanded(data["steps"]))
            yield Trajectory(data["name"], data["kind"], steps, path.name.startswith("unseen"))


def _expanded(steps: list[Step]) -> Iterator[Step]:
    for step in steps:
        if "times" not in step:
            yield step
            continue
        for number in range(1, step["times"] + 1):
            for inner in step["steps"]:
                yield _numbered(inner, number)


def _numbered(value: Any, number: int) -> Any:
    if isinstance(value, str):
        return value.replace("{n}", str(number))
    if isinstance(value, dict):
        return {key: _numbered(inner, number) for key, inner in value.items()}
    return value


_SEEN_TOPICS = ("sales", "tests", "users", "logs", "notes", "prices", "plants", "routes")
_UNSEEN_TOPICS = ("ships", "birds", "taxes", "songs", "roofs", "games", "bikes", "stars")


class _Maker:
    """Makes trajectories with what chance gives: tools, topics, lengths, remarks in between."""

    def __init__(self, chance: random.Random, *, unseen: bool) -> None:
        self.chance = chance
        self.topics = _UNSEEN_TOPICS if unseen else _SEEN_TOPICS
        self.servers = ("depot", "atlas", "hub") if unseen else ("files", "api", "shop")

    def call(self, verb: str, gives: str, /, *, error: bool = False, **args: Any) -> Step:
        """One call of a tool whose name ends with ``verb``."""
        return {"call": f"{self.servers[0]}__{verb}", "args": args, "gives": gives, "error": error}

    def topic(self) -> str:
        """One of the topics."""
        return self.chance.choice(self.topics)

    def with_remarks(self, steps: list[Step]) -> list[Step]:
        """The steps, here and there with something said before."""
        told = []
        for number, step in enumerate(steps):
            if self.chance.random() < 0.3:
                told.append({"said": f"On to {self.topic()}, part {number}, as was planned."})
            told.append(step)
        return told

    def work(self, count: int) -> list[Step]:
        """Ordinary calls that bring something new each."""
        return [
            self.call(
                self.chance.choice(["read", "write", "query", "render"]),
                f"{self.topic()}: {self.chance.randrange(10**6)}",
                item=f"{self.topic()}-{self.chance.randrange(10**6)}",
            )
            for _ in range(count)
        ]

    def repeat(self) -> list[Step]:
        """Some work, and then one call with one result."""
        topic = self.topic()
        same = self.call("read", f"All about {topic}, as ever.", path=f"{topic}.md")
        return self.work(self.chance.randrange(6)) + [same] * self.chance.randint(4, 9)

    def cycle(self) -> list[Step]:
        """Some work, and then several calls in turn."""
        around = [
            self.call("read", f"{topic} say nothing new", name=topic)
            for topic in self.chance.sample(self.topics, self.chance.randint(2, 6))
        ]
        return self.work(self.chance.randrange(6)) + around * self.chance.randint(4, 6)

    def oscillation(self) -> list[Step]:
        """A file that is set to and fro, and looked at with ever new results."""
        topic, steps = self.topic(), []
        for number in range(self.chance.randint(8, 12)):
            content = f"{topic} {'up' if number % 2 else 'down'}"
            steps.append(self.call("write_file", "ok", path=f"{topic}.txt", content=content))
            for _ in range(self.chance.randrange(3)):
                seed = self.chance.randrange(10**6)
                steps.append(self.call("measure", f"{seed} points", seed=seed))
        return steps

    def text(self) -> list[Step]:
        """A text that is said again and again, word for word or nearly."""
        words = [self.topic() for _ in range(12)]
        steps = self.work(self.chance.randrange(4))
        for _ in range(self.chance.randint(5, 8)):
            filler = self.chance.choice(["", "!", " 1", " 22", "..."])
            steps.append({"said": "I think that we should look at " + " ".join(words) + filler})
        return steps

    def stall(self) -> list[Step]:
        """Ever new calls that fail alike or find nothing."""
        fails = self.chance.random() < 0.5
        gives = "unknown name, see the manual" if fails else "No results found."
        steps = self.work(self.chance.randrange(4))
        for _ in range(self.chance.randint(10, 14)):
            guess = "".join(self.chance.choices("abcdefghijklmnop", k=7))
            steps.append(self.call("lookup", gives, error=fails, name=guess, topic=self.topic()))
        return steps

    def polling(self) -> list[Step]:
        """One call until it is done, with waits or remarks in between, or without."""
        word = self.chance.choice(["pending", "running", "queued", "processing", "in_progress"])
        form = self.chance.choice(['{{"status": "{}"}}', "state: {}", "The job is {}."])
        poll = self.call("status", form.format(word), id=self.topic())
        wait = self.call("sleep", "ok", seconds=self.chance.randint(1, 60))
        between = self.chance.choice([[], [wait], [{"said": "It is not done, so I look again."}]])
        rounds = [poll, *between] * self.chance.randint(5, 40)
        return [*rounds, self.call("status", form.format("done"), id="x"), *self.work(2)]

    def pagination(self) -> list[Step]:
        """Page after page, alike or empty at the end."""
        key = self.chance.choice(["page", "offset", "cursor", "start"])
        alike = self.chance.choice(["[]", '{"items": []}', "Item. Item. Item. Item. Item. Item."])
        count = self.chance.randint(6, 30)
        pages: list[Any] = list(range(0, 10 * count, 10))
        if key == "cursor":
            pages = [f"{self.chance.randrange(16**8):08x}" for _ in range(count)]
        return [self.call("list", alike, topic=self.topics[0], **{key: page}) for page in pages]

    def retry(self) -> list[Step]:
        """A call that fails for a while, and then does not."""
        trouble = self.chance.choice(["timed out", "503 Service Unavailable", "rate limit reached"])
        topic = self.topic()
        fails = self.call("fetch", trouble, error=True, name=topic)
        works = self.call("fetch", f"Here are the {topic}.", name=topic)
        return [*self.work(2), *[fails] * self.chance.randint(2, 7), works, *self.work(3)]

    def enumeration(self) -> list[Step]:
        """Each of a list that was given, with little to find."""
        names = [f"{self.topic()}_{self.chance.randrange(1000)}" for _ in range(25)]
        gives = self.chance.choice(["No matches.", "The same text in each of them, word for word."])
        listed = self.call("list", "\n".join(names), path=".")
        return [listed, *(self.call("search", gives, path=f"all/{name}") for name in names)]

    def edit_test(self) -> list[Step]:
        """Edits, and the same tests after each."""
        steps = []
        for number in range(self.chance.randint(3, 7)):
            old = f"{self.topic()}{number}"
            steps.append(self.call("edit_file", "edited", path="m.py", old=old, new=f"{old}x"))
            steps.append(self.call("test", "2 failed, 8 passed in 0.5s"))
        return [*steps, self.call("test", "10 passed in 0.5s")]

    def ordinary(self) -> list[Step]:
        """Work of all sorts, with one call that is made again and again in between."""
        steps = self.work(self.chance.randint(5, 30))
        glance = self.call("git_status", "clean")
        for at in range(len(steps) - 1, 0, -self.chance.randint(1, 3)):
            steps.insert(at, glance)
        return steps


def _made(chance: random.Random, *, unseen: bool) -> Iterator[Trajectory]:
    maker = _Maker(chance, unseen=unseen)
    makers: dict[str, tuple[Callable[[], list[Step]], int]] = {
        "repeat": (maker.repeat, 5),
        "cycle": (maker.cycle, 5),
        "oscillation": (maker.oscillation, 5),
        "text": (maker.text, 5),
        "stall": (maker.stall, 5),
        "polling": (maker.polling, 10),
        "pagination": (maker.pagination, 10),
        "retry": (maker.retry, 6),
        "enumeration": (maker.enumeration, 6),
        "edit and test": (maker.edit_test, 6),
        "work": (maker.ordinary, 10),
    }
    for kind, (make, count) in makers.items():
        for number in range(1, count + 1):
            name = f"made {kind} {number}{' unseen' if unseen else ''}"
            yield Trajectory(name, kind, tuple(maker.with_remarks(make())), unseen)
