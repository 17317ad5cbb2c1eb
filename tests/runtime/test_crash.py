"""kill -9 at every transaction and around every call: the run ends as if nothing had happened.

The killed processes are real. What they left is carried on in this process, some of it after
further kills, and must be what an undisturbed run leaves: the same answers, journal and log.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

import corral
from tests import forked
from tests.runtime.crash_child import (
    Boundaries,
    End,
    Place,
    alone,
    carry_on,
    child,
    copied,
    count_boundaries,
    finish,
    nothing_yet,
    stop_counting,
)

KILLED = -9


def kill(name: str, place: Place, at: int) -> int | None:
    """The exit code of a process that carries a scenario on and is killed at a boundary."""
    process = forked.start(child, name, place.root, at)
    process.join(60)
    # 255: the fork server was interrupted before it could pass on what the kernel had told it.
    return KILLED if process.exitcode == 255 else process.exitcode


async def begun(name: str, root: Path) -> Place:
    """A place to begin in: with an empty database, or for a fork with the run to be forked."""
    place = await nothing_yet(root)
    if name == "forked":
        await carry_on("parallel", place)
    return place


async def killed_at(name: str, place: Place, at: int) -> tuple[bool, End]:
    """Whether a boundary was reached, and what came of the scenario that was killed there.

    Every seventh one is killed again while it is resumed, and once more after that.
    """
    code = await asyncio.to_thread(kill, name, place, at)
    assert code in (KILLED, 0)
    chance = random.Random(at)
    for _ in range(2 if at % 7 == 0 else 0):
        again = await asyncio.to_thread(kill, name, place, chance.randint(1, 9))
        assert again in (KILLED, 0)
    return code == KILLED, await finish(name, place, replay=at % 3 == 0)


EVERY = {"parallel": 1, "nested": 7, "nested and asking": 19, "asking": 13, "forked": 6}
"""Which boundaries of a scenario are tried; ``bench/crash.py`` kills at any time at all."""


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
async def test_a_run_killed_at_any_boundary_ends_as_if_undisturbed(
    tmp_path: Path, name: str
) -> None:
    start = await begun(name, tmp_path / "start")
    calm, mine = copied(start, tmp_path / "calm"), Boundaries()
    count_boundaries(mine)
    try:
        await carry_on(name, calm)
    finally:
        stop_counting()
    expected = await finish(name, calm)
    assert mine.count > 2 * (len(calm.calls()) - len(start.calls()))
    at_once = asyncio.Semaphore(3)

    async def one(at: int) -> tuple[bool, End]:
        async with at_once:
            was_killed, end = await killed_at(name, copied(start, tmp_path / str(at)), at)
            assert (end.story, end.calls) == (expected.story, expected.calls), at
            return was_killed, end

    # Group commit makes the number of transactions vary by a few.
    ended = await asyncio.gather(*map(one, range(1, mine.count + 1, EVERY[name])))
    assert sum(was_killed for was_killed, _ in ended) >= len(ended) * 0.7
    if name == "parallel":
        answers = frozenset[str]().union(*(end.doubts for _, end in ended))
        assert answers == {"approved", "given"}, "the kills have hit calls before and after"


@pytest.mark.parametrize("at", [5, 9, 13, 17])
async def test_a_killed_run_that_is_given_up_leaves_a_thread_that_goes_on(
    tmp_path: Path, at: int
) -> None:
    place = await begun("asking", tmp_path / "start")
    assert await asyncio.to_thread(kill, "asking", place, at) == KILLED
    async with corral.open(place.settings(asking=False)) as c:
        (killed,) = await c.records.runs()
        await c.records.cancel(killed.run)
        assert await c.approvals() == []
        options = corral.RunOptions(agent=alone(place), thread=killed.thread)
        for _ in range(2):
            assert (await c.run("Something else.", options)).status == "completed"
        for run in await c.records.runs():
            report = await c.replay(run.run)
            assert report.status == "identical", report.divergence
