"""Scenarios that are carried on from wherever they stand, in a process that may be killed.

Boundaries are counted after every transaction (what is on the disk then is what is there before the
next one) and on both sides of every call that really happens.
The tools append to ``calls.log`` in the workspace, flushed at once: the truth about what happened.
The human of these scenarios looks there before answering for a call in doubt.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corral
from corral.runtime.database import Database
from corral.runtime.migrate import open_database
from tests.runtime.agents import scripted, turn

ALL_DONE = "All done."
MORE = "Once more."

Answer = corral.Approved | corral.Denied | corral.Given


class Boundaries:
    """Counts boundaries and does something at each: by default it kills this process at one."""

    def __init__(self, kill_at: int = 0) -> None:
        self.kill_at = kill_at
        self.count = 0

    def reach(self, *, flushed: bool = False) -> None:
        """One more; ``flushed`` says that a transaction has just reached the disk itself."""
        del flushed
        self.count += 1
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


boundaries = Boundaries()
"""Those of this process."""

_commit = Database._commit
_disk = threading.Lock()
"""Held by whoever writes, the database or the log: at a boundary nobody else does."""


def _counted(self: Database, batch: Any) -> None:
    with _disk:
        _commit(self, batch)
        boundaries.reach(flushed=any(job.durable for job in batch))


def count_boundaries(mine: Boundaries) -> None:
    """Count from now on, in this process, with ``mine``."""
    global boundaries  # noqa: PLW0603  once a process, and in a test that puts it back
    boundaries = mine
    Database._commit = _counted  # type: ignore[method-assign]  # likewise


def stop_counting() -> None:
    """The opposite."""
    count_boundaries(Boundaries())
    Database._commit = _commit  # type: ignore[method-assign]  # put back


@dataclass(frozen=True)
class Place:
    """The home, the workspace and the tools' log of one scenario."""

    root: Path

    @property
    def workspace(self) -> Path:
        return self.root / "w"

    @property
    def log(self) -> Path:
        return self.workspace / "calls.log"

    @property
    def database(self) -> Path:
        return self.root / "h" / "corral.db"

    def calls(self) -> list[str]:
        """The calls that really happened."""
        return self.log.read_text().split("\n")[:-1] if self.log.exists() else []

    def settings(self, *, asking: bool) -> corral.Settings:
        """Settings under which every append is asked about, or none."""
        rules = [] if asking else [{"tool": "functions__*", "action": "allow"}]
        return corral.load_settings(
            {"home": self.root / "h", "workspace": self.workspace, "rules": rules}
        )

    def tools(self) -> tuple[Callable[..., Any], ...]:
        """Tools that leave a line for every call that really happened."""

        def write(text: str) -> None:
            with _disk:
                boundaries.reach()
            with _disk:
                with self.log.open("a") as file:
                    file.write(text + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                boundaries.reach()

        def append(text: str) -> str:
            """Append a line."""
            write(text)
            return f"appended {text}"

        @corral.tool(read_only=True)
        def look() -> str:
            """Look at nothing."""
            write("look")
            return "nothing"

        return append, look


def copied(place: Place, to: Path) -> Place:
    """The same place elsewhere, as it is on the disk."""
    shutil.copytree(place.root, to)
    copy = Place(to)
    with contextlib.closing(sqlite3.connect(copy.database)) as database, database:
        database.execute("UPDATE threads SET workspace = ?", (str(copy.workspace),))
    return copy


async def nothing_yet(root: Path) -> Place:
    """A new place with a database in which nothing is."""
    place = Place(root)
    place.workspace.mkdir(parents=True)
    database = await open_database(f"sqlite:///{place.database}")
    await database.aclose()
    return place


def both(*texts: str) -> dict[str, Any]:
    """A turn that appends several lines at once."""
    calls = [{"name": "functions__append", "args": {"text": text}} for text in texts]
    return {"text": "Several at once.", "tool_calls": calls}


def alone(place: Place) -> corral.Agent:
    """Parallel calls, one that only reads, and one more."""
    turns = [both("one", "two"), turn("A look.", look={}), both("three"), turn(ALL_DONE)]
    return scripted(turns, *place.tools())


def leader(place: Place) -> corral.Agent:
    """Two sub-agents at once, each with calls of its own, and a call of the leader's."""

    def helper(name: str) -> corral.Agent:
        turns = [both(f"{name}-1", f"{name}-2"), turn("", look={}), turn(f"{name} is done.")]
        return scripted(turns, *place.tools(), name=name)

    asked = [{"name": f"agents__{name}", "args": {"task": f"Do {name}."}} for name in ("a", "b")]
    turns = [{"text": "", "tool_calls": asked}, both("after"), turn(ALL_DONE)]
    return scripted(turns, *place.tools(), agents=(helper("a"), helper("b")))


async def human(place: Place, approval: corral.Approval, times: int) -> Answer:
    """One is edited, two is refused; for a call in doubt the log says whether it happened.

    Each run of the scenario makes it once, this one being number ``times``.
    """
    text = str(approval.args.get("text"))
    if approval.kind == "in_doubt":
        if place.calls().count(text) == times:
            return corral.Given(f"appended {text}")
        return corral.Approved()
    if text == "one":
        return corral.Approved(args={"text": "uno"})
    return corral.Denied("not two") if text == "two" else corral.Approved()


async def answer(c: corral.Corral, approval: corral.Approval, said: Answer) -> None:
    """Store an answer."""
    match said:
        case corral.Approved(args):
            await c.approve(approval.id, args=args)
        case corral.Denied(reason):
            await c.deny(approval.id, reason)
        case corral.Given(result):
            await c.give(approval.id, result)


async def go_on(c: corral.Corral, place: Place, options: corral.RunOptions) -> None:
    """Carry the newest run on to its end, its questions answered one at a time."""
    (newest,) = await c.records.runs(limit=1)
    while newest.status != "completed":
        for approval in (await c.approvals(newest.run))[:1]:
            times = len(await c.records.runs())
            await answer(c, approval, await human(place, approval, times))
        result = await c.resume(newest.run, options)
        assert result.status in ("completed", "paused"), result.error
        newest = await c.records.run(newest.run)


async def one_run(c: corral.Corral, place: Place, agent: corral.Agent) -> None:
    """One run, from its start or from where it is."""
    options = corral.RunOptions(agent=agent)
    if not await c.records.runs():
        await c.run("Do it.", options)
    await go_on(c, place, options)


async def parallel(c: corral.Corral, place: Place) -> None:
    """Nothing is asked but what is in doubt."""
    await one_run(c, place, alone(place))


async def nested(c: corral.Corral, place: Place) -> None:
    """Sub-agents that work at the same time."""
    await one_run(c, place, leader(place))


async def asking(c: corral.Corral, place: Place) -> None:
    """Every append is asked about; then the thread goes on with a second run."""
    agent = alone(place)
    await one_run(c, place, agent)
    first = (await c.records.runs())[-1]
    options = corral.RunOptions(agent=agent, thread=first.thread)
    if len(await c.records.runs()) == 1:
        await c.run(MORE, options)
    await go_on(c, place, options)


async def forked(c: corral.Corral, place: Place) -> None:
    """A fork of a completed run, from its second model call on, with another prompt."""
    agent = alone(place)
    await one_run(c, place, agent)
    first = (await c.records.runs())[-1]
    options = corral.RunOptions(agent=agent)
    if len(await c.records.runs()) == 1:
        at = [effect.seq for effect in await c.records.trace(first.run) if effect.kind == "model"]
        await c.fork(first.run, corral.Fork(at=at[1], prompt="Do it again."), options)
    await go_on(c, place, options)


SCENARIOS = {
    "parallel": parallel,
    "nested": nested,
    "nested and asking": nested,
    "asking": asking,
    "forked": forked,
}


async def carry_on(name: str, place: Place) -> None:
    """Bring a scenario to its end from wherever it stands."""
    async with corral.open(place.settings(asking=name.endswith("asking"))) as c:
        await SCENARIOS[name](c, place)


def child(name: str, root: Path, kill_at: int) -> None:
    """``carry_on`` in this process, which is killed at boundary ``kill_at`` (0: never)."""
    count_boundaries(Boundaries(kill_at))
    asyncio.run(carry_on(name, Place(root)))


@dataclass(frozen=True)
class End:
    """What came of a scenario, without what differs from one time to the next.

    ``doubts`` says how calls in doubt were answered.
    """

    story: list[Any]
    calls: Counter[str]
    doubts: frozenset[str]


async def finish(name: str, place: Place, *, replay: bool = True) -> End:
    """``carry_on``, and what then is there. All runs must ``replay``, if that is asked for."""
    story: list[Any] = []
    async with corral.open(place.settings(asking=name.endswith("asking"))) as c:
        await SCENARIOS[name](c, place)
        options = corral.RunOptions(
            agent=leader(place) if name.startswith("nested") else alone(place)
        )
        for run in reversed(await c.records.runs()):
            if replay:
                report = await c.replay(run.run, options)
                assert report.status == "identical", report.divergence
            story += [run.status, run.output, run.error, run.steps, run.usage]
            story += sorted(
                (effect.path, effect.kind, effect.name, effect.status, _given(effect.result))
                for effect in await c.records.trace(run.run)
                if "in_doubt" not in effect.path
            )
            story = [_without(run.run, one) for one in story]
        asked = await c.records.approvals(status=None)
    assert all(approval.status != "pending" for approval in asked)
    doubts = frozenset(approval.status for approval in asked if approval.kind == "in_doubt")
    # To look twice does no harm.
    return End(story, Counter(place.calls()) - Counter(look=10), doubts)


def _given(result: Any) -> str:
    """What an effect gave, whoever said so."""
    if isinstance(result, dict):
        result = {name: value for name, value in result.items() if name != "given_by"}
    return str(result)


def _without(run: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_without(run, one) for one in value)
    return value.replace(run, "RUN") if isinstance(value, str) else value
