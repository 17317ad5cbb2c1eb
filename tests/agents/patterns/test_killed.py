"""kill -9 in the middle of an effect of every pattern: the run ends as if nothing had happened.

The killed processes are real. What they left is carried on in another, some of it after a further
kill, and must be what a run leaves that nobody disturbs: the same answer, each payment made once.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from corral.agents.patterns.registry import PATTERNS
from tests import forked
from tests.agents.patterns.killed import Fuse, Moment, carried_on, child
from tests.runtime.crash_child import Place, nothing_yet
from tests.runtime.test_crash import KILLED


async def killed(name: str, place: Place, moment: Moment, number: int) -> int | None:
    """The exit code of a process that carries a run on and is killed in an effect of it."""
    process = forked.start(child, name, place.root, moment, number)
    await asyncio.to_thread(process.join, 300)
    # 255: the fork server was interrupted before it could pass on what the kernel had told it.
    return KILLED if process.exitcode == 255 else process.exitcode


def moments(fuse: Fuse) -> list[tuple[Moment, int]]:
    """While a model is asked, half way and at the end, and around calls, the first and the last."""
    asked, paid = fuse.counted["asked"], fuse.counted["after"]
    calls: list[tuple[Moment, int]] = [("before", 1), ("after", paid)]
    if paid > 1:
        calls.append(("after", 1))
    return [("asked", asked // 2 + 1), *calls, ("asked", asked)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PATTERNS)
async def test_killed_in_the_middle_it_ends_as_if_undisturbed(tmp_path: Path, name: str) -> None:
    calm, fuse = await nothing_yet(tmp_path / "calm"), Fuse()
    expected = await carried_on(name, calm, fuse)
    calls = sorted(calm.calls())
    assert expected
    assert len(set(calls)) == len(calls) > 0

    for index, (moment, number) in enumerate(moments(fuse)):
        place = await nothing_yet(tmp_path / str(index))
        assert await killed(name, place, moment, number) == KILLED, (moment, number)
        if index % 3 == 0:
            assert await killed(name, place, "asked", 1) in (KILLED, 0)
        assert await carried_on(name, place, Fuse()) == expected, (moment, number)
        assert sorted(place.calls()) == calls, (moment, number)
