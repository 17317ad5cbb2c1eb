"""How growth of folders is found out, whatever else happens on their file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.sandbox.launcher import disk
from corral.sandbox.launcher.disk import Growth

MIB = 1024 * 1024


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The space that the file system says is used; tests change it."""
    said = [10_000 * MIB]
    monkeypatch.setattr(disk, "_used_space", lambda folders: said[0])
    return said


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))


def test_growth_is_that_of_the_folders(tmp_path: Path, used: list[int]) -> None:
    growth = Growth([str(tmp_path)], 100 * MIB)
    assert not growth.suspicious()
    write(tmp_path / "a" / "b", 8 * MIB)
    used[0] += 8 * MIB
    assert growth.suspicious()
    assert growth.look([]) == pytest.approx(8 * MIB, rel=0.1)
    assert not growth.suspicious()


def test_what_others_write_elsewhere_does_not_count(tmp_path: Path, used: list[int]) -> None:
    growth = Growth([str(tmp_path)], 100 * MIB)
    used[0] += 50_000 * MIB
    assert growth.suspicious()
    assert growth.look([]) < MIB
    used[0] += 50_000 * MIB
    assert growth.look([]) < MIB


def test_what_was_there_before_does_not_count(tmp_path: Path, used: list[int]) -> None:
    old = tmp_path / "old"
    write(old, 32 * MIB)
    os.utime(old, (0, 0))
    growth = Growth([str(tmp_path)], 100 * MIB)
    growth.look([])
    write(tmp_path / "new", 8 * MIB)
    used[0] += 8 * MIB
    assert growth.look([]) == pytest.approx(8 * MIB, rel=0.1)


def test_a_removed_file_counts_while_it_is_open(tmp_path: Path, used: list[int]) -> None:
    growth = Growth([str(tmp_path)], 100 * MIB)
    growth.look([])
    with (tmp_path / "held").open("wb") as file:
        file.write(bytes(8 * MIB))
        file.flush()
        (tmp_path / "held").unlink()
        used[0] += 8 * MIB
        assert growth.look([os.getpid()]) >= 8 * MIB
    used[0] -= 8 * MIB
    assert growth.look([os.getpid()]) < 8 * MIB


def test_links_lead_nowhere_and_missing_folders_are_empty(tmp_path: Path, used: list[int]) -> None:
    write(tmp_path / "outside" / "big", 8 * MIB)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "outside")
    folders = [str(tmp_path / "inside"), str(tmp_path / "missing")]
    assert disk.look(folders, 0.0).taken < MIB
