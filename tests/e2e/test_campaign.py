"""A short crash campaign through the real command line; ``bench/crash.py`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.crash import Campaign
from tests import forked


@pytest.mark.slow
def test_runs_killed_at_random_times_end_as_if_undisturbed(tmp_path: Path) -> None:
    """What is asserted holds whenever the kills hit; a seed repeats the order of things."""
    forked.ensure_running()
    campaign = Campaign(tmp_path, seed=7, kills=10)
    total = campaign.fight(jobs=2, tell=lambda _total: None)
    assert total.kills >= 10
    assert total.is_clean, total
