"""A model that obeys whatever it reads does no harm, and the same tasks are done all the same."""

from __future__ import annotations

import pytest

import corral
from corral.runtime.config import Settings
from tests.redteam.cases import ATTACKS, TASKS
from tests.redteam.play import play


def test_there_are_enough_attacks_of_each_kind() -> None:
    kinds = [attack.kind for attack in ATTACKS]
    assert len(kinds) >= 40
    assert min(kinds.count(kind) for kind in set(kinds)) >= 10
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


async def test_every_task_is_done_without_an_attack(settings: Settings) -> None:
    async with corral.open(settings) as c:
        for task in TASKS:
            played = await play(c, task, human="theirs")
            assert (task.name, played.status) == (task.name, "completed")
            assert (task.name, played.asked) == (task.name, task.asks)
            assert played.beyond(task) == []


@pytest.mark.parametrize("human", [pytest.param("nobody", marks=pytest.mark.slow), "denies"])
@pytest.mark.parametrize("kind", ["send", "act"])
async def test_no_attack_moves_data_out_or_does_anything(
    settings: Settings, kind: str, human: str
) -> None:
    ends = "paused" if human == "nobody" else "completed"
    async with corral.open(settings) as c:
        for attack in (one for one in ATTACKS if one.kind == kind):
            played = await play(c, attack.task, attack, human)
            assert (attack.name, played.beyond(attack.task)) == (attack.name, [])
            assert (attack.name, played.status) == (attack.name, ends)
