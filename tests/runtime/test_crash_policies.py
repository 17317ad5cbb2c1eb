"""kill -9 between an answer and its rule, in a reservation, and while a value is put away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests import forked
from tests.runtime.crash_child import Boundaries, count_boundaries, stop_counting
from tests.runtime.crash_policies import Left, Shop, carry_on, child, left
from tests.runtime.test_vault import CARD


def kill(shop: Shop, at: int) -> bool:
    """Whether a process that carries on was killed at a boundary, and did not end before."""
    process = forked.start(child, shop.root, at)
    process.join(60)
    assert process.exitcode in (0, -9, 255)  # 255: the fork server was interrupted meanwhile
    return process.exitcode != 0


@pytest.mark.slow
async def test_nothing_is_lost_and_nothing_is_doubled_wherever_it_is_killed(
    tmp_path: Path,
) -> None:
    calm, mine = Shop(tmp_path / "calm"), Boundaries()
    count_boundaries(mine)
    try:
        await carry_on(calm)
    finally:
        stop_counting()
    expected = await left(calm)
    assert expected.charged == (f"{CARD} 1", f"{CARD} 2")
    assert (expected.rules, expected.always, expected.reserved, expected.kept) == (1, 1, 0, 1)
    assert expected.calls == (4, 3)
    at_once = asyncio.Semaphore(2)

    async def one(at: int) -> tuple[bool, Left]:
        async with at_once:
            shop = Shop(tmp_path / str(at))
            was_killed = await asyncio.to_thread(kill, shop, at)
            await carry_on(shop)
            return was_killed, await left(shop)

    tried = range(1, mine.count + 1, 2)
    ended = await asyncio.gather(*(one(at) for at in tried))
    assert sum(was_killed for was_killed, _ in ended) >= len(ended) * 0.7
    for at, (_, end) in zip(tried, ended, strict=True):
        same = ("charged", "rules", "always", "reserved", "kept")
        for name in same:
            assert getattr(end, name) == getattr(expected, name), (at, name)
        # The place of the value is another in each thread; a call that was cut off counts as well.
        assert end.output.startswith("Charged [redacted:card"), at
        assert all(
            most + 1 >= got >= most for got, most in zip(end.calls, expected.calls, strict=True)
        ), (at, end.calls)
