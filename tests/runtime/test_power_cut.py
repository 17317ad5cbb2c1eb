"""The power fails: what was not flushed is gone, and still no call happens twice unasked.

At every boundary the database is copied as the disk would have it, at worst: its write-ahead log
ends where it was last flushed, or somewhere after that, in the middle of a page.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from tests.runtime.crash_child import (
    Boundaries,
    Place,
    carry_on,
    copied,
    count_boundaries,
    finish,
    nothing_yet,
    stop_counting,
)


class PowerCuts(Boundaries):
    """Copies a place at every boundary, without what the disk may have lost by then."""

    def __init__(self, place: Place, to: Path) -> None:
        super().__init__()
        self._place = place
        self._to = to
        self._flushed = 0
        self.lost = 0

    def reach(self, *, flushed: bool = False) -> None:
        """A copy under the number of the boundary."""
        super().reach()
        wal = self._place.database.with_name("corral.db-wal")
        size = wal.stat().st_size if wal.exists() else 0
        if flushed:
            self._flushed = size
        kept = self._flushed
        if self.count % 2 == 0:
            kept = random.Random(self.count).randint(kept, max(kept, size))
        self.lost += size > kept
        copy = Place(self._to / str(self.count))
        copy.database.parent.mkdir(parents=True)
        copy.workspace.mkdir()
        shutil.copy(self._place.database, copy.database)
        if size:
            copy.database.with_name("corral.db-wal").write_bytes(wal.read_bytes()[:kept])
        if self._place.log.exists():
            shutil.copy(self._place.log, copy.log)


@pytest.mark.slow
async def test_what_was_not_flushed_is_done_again_or_asked_about(tmp_path: Path) -> None:
    place = await nothing_yet(tmp_path / "start")
    cuts = PowerCuts(place, tmp_path / "cuts")
    count_boundaries(cuts)
    try:
        await carry_on("parallel", place)
    finally:
        stop_counting()
    expected = await finish("parallel", place)
    assert cuts.lost > 0, "some of what was stored was not on the disk yet"
    at_once = asyncio.Semaphore(3)

    async def carried_on(number: int) -> frozenset[str]:
        async with at_once:
            cut = copied(Place(tmp_path / "cuts" / str(number)), tmp_path / str(number))
            end = await finish("parallel", cut, replay=number % 3 == 0)
            assert (end.story, end.calls) == (expected.story, expected.calls), number
            return end.doubts

    doubts = await asyncio.gather(*map(carried_on, range(1, cuts.count + 1)))
    assert frozenset[str]().union(*doubts) == {"approved", "given"}
