"""The fixture that all tests of the sandbox start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sandbox.inside import Inside


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    folder = tmp_path / "granted"
    folder.mkdir()
    return Inside(folder)
